-- What the installation itself needs: its identity, settings with their history, throttles, the messages of the console providers.

create table installation (
  id uuid not null default gen_random_uuid(),
  only_one boolean primary key default true check (only_one),
  -- Derived from SECRET_KEY: a start with another key is refused instead of making every hash and seal meaningless.
  key_fingerprint bytea not null,
  demo boolean not null default false,
  created_at timestamptz not null
);

create table setting (
  name text primary key,
  value jsonb not null,
  changed_at timestamptz not null,
  changed_by text not null
);

-- The largest id is the version of the settings as a whole.
create table setting_change (
  id bigint generated always as identity primary key,
  name text not null,
  value jsonb,
  previous jsonb,
  changed_at timestamptz not null,
  changed_by text not null
);
create index setting_change_name on setting_change (name, id desc);

-- Counters of fixed windows. Unlogged: a count costs no flush to disk, and a crash merely opens the windows anew.
create unlogged table throttle (
  scope text not null,
  caller bytea not null,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  count integer not null,
  primary key (scope, caller)
) with (fillfactor = 60);

-- What the console providers would have sent: development and demo only.
create table console_message (
  id bigint generated always as identity primary key,
  medium text not null check (medium in ('sms', 'mail')),
  recipient text not null,
  subject text,
  body text not null,
  sent_at timestamptz not null
);
