-- Webhooks: who is told of changes of consent and of addresses, what they were told, and what is still to be told.
-- Nothing here is personal: messages name lines, accounts and contact points, and are composed when they are sent.

create table webhook_endpoint (
  id bigint generated always as identity primary key,
  url text not null,
  -- Types it wants; null: all, also those of later releases.
  types text[] check (cardinality(types) > 0),
  description text not null default '',
  -- Nothing is sent meanwhile; messages wait.
  paused_at timestamptz,
  pause_reason text check (pause_reason in ('operator', 'gone')),
  -- First of the failures since the last success: such an endpoint gets one lane only.
  failing_since timestamptz,
  created_at timestamptz not null,
  created_by text not null,
  check ((paused_at is null) = (pause_reason is null))
);

-- All of an endpoint's that have not ended sign each message: receivers change over without losing one.
create table webhook_secret (
  id bigint generated always as identity primary key,
  endpoint bigint not null references webhook_endpoint on delete cascade,
  -- Encrypted under SECRET_KEY.
  secret bytea not null,
  created_at timestamptz not null,
  -- Null: the newest, which does not end.
  expires_at timestamptz
);
create index webhook_secret_endpoint on webhook_secret (endpoint);

create table webhook_message (
  -- The order in which they were made.
  number bigint generated always as identity primary key,
  -- `webhook-id` of the wire. By chance and not by number: a restored database must not use an id again.
  id text not null unique default 'msg_' || replace(gen_random_uuid()::text, '-', ''),
  endpoint bigint not null references webhook_endpoint on delete cascade,
  type text not null,
  -- The line of the ledger that it tells of. An endpoint is told once.
  event uuid,
  -- The change of an address that it tells of: ids, what changed, when.
  change jsonb,
  created_at timestamptz not null,
  status text not null default 'waiting' check (status in ('waiting', 'delivered', 'failed')),
  -- Attempts since it was made or sent again; its place in the schedule.
  tries integer not null default 0,
  -- About when the next attempt is due; null while nothing is planned.
  next_at timestamptz,
  -- When it was delivered or given up.
  ended_at timestamptz,
  check ((status = 'waiting') = (ended_at is null)),
  unique (endpoint, event)
);
create index webhook_message_endpoint on webhook_message (endpoint, number);
create index webhook_message_open on webhook_message (endpoint, status) where status <> 'delivered';
create index webhook_message_ended on webhook_message (ended_at) where ended_at is not null;

create table webhook_attempt (
  id bigint generated always as identity primary key,
  message bigint not null references webhook_message on delete cascade,
  at timestamptz not null,
  -- Of the answer; null when there was none.
  status integer,
  milliseconds integer not null,
  -- What went wrong in few words of ours, never of the receiver's.
  error text
);
create index webhook_attempt_message on webhook_attempt (message);

-- How far the ledger has been announced. What was sealed before webhooks were there is history, not news.
create table webhook_cursor (
  only_one boolean primary key default true check (only_one),
  position bigint not null
);
insert into webhook_cursor (position) select coalesce(max(position), 0) from ledger_line;

-- Changes of addresses waiting to be announced. A queue, so that a transaction that commits late is never passed over.
create table contact_point_change (
  id bigint generated always as identity primary key,
  account bigint not null,
  kind text not null check (kind in ('phone', 'email')),
  change text not null check (change in ('changed', 'verified', 'removed', 'erased')),
  contact_point bigint,
  previous bigint,
  at timestamptz not null
);
