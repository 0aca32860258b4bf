-- Phone numbers: what was asked for and what it cost, messages handed over, changes that can be stopped. And loyalty: who
-- is to be told to the provider, and what came of it.

-- Every code that was asked for, as budgets see it: to replay a week against other limits. Numbers and client addresses
-- are keyed hashes.
create table sms_request (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  account bigint not null references account on delete cascade,
  number bytea not null,
  address bytea not null,
  country text not null,
  -- The account was new or had proven nothing: such share a part of the wide budgets.
  newcomer boolean not null,
  -- The limit that refused it; null: it was sent.
  refused_by text,
  -- When its code came back right: an honest customer, most likely.
  proven_at timestamptz
);
create index sms_request_at on sms_request (at);
create index sms_request_account on sms_request (account, at);

-- Messages handed to a provider. No number and no text: what the provider calls it is enough for its reports.
create table sms_message (
  id uuid primary key,
  purpose text not null check (purpose in ('code', 'text', 'test')),
  account bigint references account on delete cascade,
  provider text not null,
  -- The provider's own name of the message.
  provider_id text,
  status text not null check (status in ('sending', 'sent', 'delivered', 'failed')),
  attempts integer not null default 0,
  -- Attempts whose answer never came: each may have been taken.
  unanswered integer not null default 0,
  -- Why it failed, in words of ours or the provider's code.
  reason text,
  created_at timestamptz not null,
  -- When the provider was last asked what became of it.
  asked_at timestamptz,
  ended_at timestamptz
);
create index sms_message_provider on sms_message (provider, provider_id);
create index sms_message_account on sms_message (account);
create index sms_message_created on sms_message (created_at);
-- For the sweep of those that nobody is at any more.
create index sms_message_sending on sms_message (created_at) where status = 'sending';

-- A proven number that was replaced or removed: who holds it, or the mail address, can take the change back for a time.
create table phone_undo (
  id uuid primary key,
  account bigint not null references account on delete cascade,
  phone text not null,
  phone_e164 text not null,
  phone_verified_at timestamptz not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  used_at timestamptz
);
create index phone_undo_account on phone_undo (account);
create index phone_undo_expires on phone_undo (expires_at);

-- ---- Loyalty ----

-- Accounts in which something changed that a provider is told. Only added to by customers' transactions, so that no two of
-- them ever wait for each other here; the dispatcher takes them out.
create table loyalty_mark (
  id bigint generated always as identity primary key,
  account bigint not null
);

-- One row for each account the provider knows or is to know. No foreign key: an account that was erased is still to be
-- forgotten at the provider.
create table loyalty_member (
  account bigint primary key,
  status text not null check (status in ('waiting', 'parked', 'settled')),
  -- Grows with every change that was noticed: what was delivered meanwhile was not the last word.
  marks bigint not null default 1,
  -- Oldest change that is not delivered yet.
  waiting_since timestamptz,
  next_at timestamptz not null,
  -- Until then one job is at it.
  claimed_until timestamptz,
  attempts integer not null default 0,
  -- Why it was parked, or failed last.
  reason text,
  -- What is repeated until its fate is known: the same content goes out under the same key and number.
  request_key uuid,
  request_sum bytea,
  request_sequence bigint,
  -- An earlier request may have been taken without our knowing, and may still arrive: looked at once more later.
  check_at timestamptz,
  -- The provider that was told, or may have been: name and connection. What was delivered to another counts for nothing.
  connector text,
  -- Where that is, without what of a member is told there.
  place text,
  delivered_sum bytea,
  delivered_at timestamptz,
  -- What the provider told us.
  card_number text,
  tier text,
  points numeric,
  -- Newest of what it told; and each by itself, as tier and points come in messages of their own, in any order.
  told_at timestamptz,
  card_at timestamptz,
  tier_at timestamptz,
  points_at timestamptz,
  -- The place of the provider that told it: another one's is not shown.
  told_by text
);
create index loyalty_member_due on loyalty_member (next_at) where status = 'waiting';
create index loyalty_member_check on loyalty_member (check_at) where check_at is not null;
create index loyalty_member_parked on loyalty_member (account) where status = 'parked';
create index loyalty_member_claimed on loyalty_member (claimed_until) where claimed_until is not null;
create index loyalty_member_waiting on loyalty_member (waiting_since) where status = 'waiting';

-- Providers that know an account, or may, besides the present one: when it is erased, somebody has to erase it there by
-- hand. No foreign key, for the same reason.
create table loyalty_left (
  account bigint not null,
  place text not null,
  left_at timestamptz not null default now(),
  primary key (account, place)
);

-- Shared by all processes: a provider that is down is asked by one of them at a time.
create table loyalty_breaker (
  connector text primary key,
  -- In a row, and the first few accounts they were about: one bad record is not a provider that is down.
  failures integer not null default 0,
  accounts bigint[] not null default '{}',
  -- Since when, and until when nobody asks; null: closed.
  opened_at timestamptz,
  open_until timestamptz,
  reason text
);

-- Counters for /metrics, by connector and outcome.
create table loyalty_attempt (
  connector text not null,
  outcome text not null,
  count bigint not null,
  primary key (connector, outcome)
);

-- Messages of the provider that were taken in, so that none counts twice.
create table loyalty_message (
  id text primary key,
  at timestamptz not null
);

-- Where a sweep stopped, so that it goes on from there.
create table loyalty_sweep (
  connector text primary key,
  started_at timestamptz not null,
  -- Last account that was compared.
  after bigint not null default 0,
  compared bigint not null default 0,
  repaired bigint not null default 0,
  failed bigint not null default 0,
  finished_at timestamptz,
  -- When the last one that finished began: what changed before is known to be there.
  complete_from timestamptz
);

-- Triggers and not calls: whatever writes an account or a consent, today or in a later release, is noticed in the same
-- transaction. One call a statement, and a single look at the setting where no connector is configured.
create function loyalty_follows() returns boolean language sql stable as $$
  select exists (select from setting where name = 'CUSTOMER_LOYALTY_CARD_SERVICE' and value ->> 'connector' <> 'none')
$$;

create function loyalty_account_changed() returns trigger language plpgsql as $$
begin
  if loyalty_follows() then
    insert into loyalty_mark (account)
    select n.id from new_rows n join old_rows o on o.id = n.id
     where (n.email, n.first_name, n.last_name, n.phone_e164, n.phone_verified_at is null, n.gender, n.date_of_birth,
            n.language_code, n.attributes, n.is_active, n.email_point, n.phone_point)
           is distinct from
           (o.email, o.first_name, o.last_name, o.phone_e164, o.phone_verified_at is null, o.gender, o.date_of_birth,
            o.language_code, o.attributes, o.is_active, o.email_point, o.phone_point);
  end if;
  return null;
end $$;

create function loyalty_account_added() returns trigger language plpgsql as $$
begin
  if loyalty_follows() then
    insert into loyalty_mark (account) select id from new_rows;
  end if;
  return null;
end $$;

-- Also while no connector is configured: whoever was told of an account has to hear that it was erased, once there is one.
create function loyalty_account_removed() returns trigger language plpgsql as $$
begin
  -- The sums too: they have no salt, so whoever guesses a person could see that it was this one.
  update loyalty_member set card_number = null, tier = null, points = null, told_at = null,
         card_at = null, tier_at = null, points_at = null, told_by = null, delivered_sum = null, request_sum = null
   where account in (select id from old_rows);
  if loyalty_follows() then
    insert into loyalty_mark (account) select id from old_rows;
  else
    insert into loyalty_mark (account) select id from old_rows where id in (select account from loyalty_member);
  end if;
  return null;
end $$;

create function loyalty_consent_changed() returns trigger language plpgsql as $$
begin
  if loyalty_follows() then
    insert into loyalty_mark (account)
    select a.id from account a where a.email_point in (select contact_point from new_rows)
    union
    select a.id from account a where a.phone_point in (select contact_point from new_rows);
  end if;
  return null;
end $$;

-- Whoever writes it down: the provider of before is not forgotten about.
create function loyalty_place_changed() returns trigger language plpgsql as $$
begin
  insert into loyalty_left (account, place) values (old.account, old.place) on conflict do nothing;
  delete from loyalty_left where account = new.account and place = new.place;
  return null;
end $$;

create trigger loyalty_moved after update of place on loyalty_member
  for each row when (old.place is not null and old.place is distinct from new.place)
  execute function loyalty_place_changed();
create trigger loyalty_changed after update on account
  referencing old table as old_rows new table as new_rows for each statement execute function loyalty_account_changed();
create trigger loyalty_added after insert on account
  referencing new table as new_rows for each statement execute function loyalty_account_added();
create trigger loyalty_removed after delete on account
  referencing old table as old_rows for each statement execute function loyalty_account_removed();
create trigger loyalty_stated after insert on consent_state
  referencing new table as new_rows for each statement execute function loyalty_consent_changed();
create trigger loyalty_restated after update on consent_state
  referencing new table as new_rows for each statement execute function loyalty_consent_changed();
