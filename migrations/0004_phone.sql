-- A number somebody wants on their profile and has yet to prove, one per account; it reserves nothing.
create table phone_change (
  account bigint primary key references account on delete cascade,
  phone text not null,
  phone_e164 text not null,
  -- The code is derived from this and SECRET_KEY, bound to account and number; neither it nor a hash of it is stored.
  nonce bytea not null,
  submissions integer not null default 0,
  sent_at timestamptz not null,
  expires_at timestamptz
);

-- What codes cost: counters of fixed windows. Logged, unlike throttles: a crash must not refill a budget.
create table sms_budget (
  scope text not null,
  holder bytea not null,
  ends_at timestamptz not null,
  count integer not null,
  primary key (scope, holder)
);
