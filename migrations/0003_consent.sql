-- The consent ledger: what people said, about which address, on which channel, when, and how we know.

create table consent_event (
  -- UUID version 7 (RFC 9562): ordered by time.
  id uuid primary key,
  contact_point bigint not null references contact_point,
  account bigint,
  channel text not null,
  purpose text not null,
  kind text not null check (kind in
    ('request', 'grant', 'confirm', 'refuse', 'withdraw', 'expire', 'suppress', 'restore', 'erase')),
  occurred_at timestamptz not null,
  recorded_at timestamptz not null,
  source text not null,
  actor text not null,
  idempotency_key text,
  -- Salted SHA-256 of the evidence: the line stays provable after the evidence is erased.
  commitment bytea not null,
  hash bytea not null
);
create unique index consent_event_idempotency_key on consent_event (idempotency_key) where idempotency_key is not null;
create index consent_event_account on consent_event (account, id desc);
create index consent_event_point on consent_event (contact_point, id desc);

-- Lines are never deleted, and what refers to one is written in the same statement: references to `consent_event` are not
-- declared as foreign keys, whose checks were a third of the cost of a consent.

-- Personal evidence (address of the client, user agent, request), separable from the line.
create table consent_evidence (
  event uuid primary key,
  salt bytea not null,
  evidence jsonb not null
);

-- The projection: what the ledger says today. Rebuildable from it.
create table consent_state (
  contact_point bigint not null,
  channel text not null,
  purpose text not null,
  state text not null check (state in ('pending', 'granted', 'withdrawn', 'expired', 'refused', 'suppressed')),
  since timestamptz not null,
  event uuid not null,
  -- Whose word the deciding event was, and whether they had proven the address.
  account bigint,
  proven boolean not null,
  primary key (contact_point, channel, purpose)
) with (fillfactor = 80);

-- Lines waiting for the sealer. A queue, so that a transaction that commits late is never passed over.
create table ledger_unsealed (
  event uuid primary key
);

-- Sealed batches: a hash chain of Merkle roots (RFC 9162 is the model), each head signed.
create table ledger_seal (
  number bigint primary key,
  first_position bigint not null,
  lines integer not null check (lines > 0),
  root bytea not null,
  previous bytea not null,
  head bytea not null unique,
  sealed_at timestamptz not null,
  signature bytea not null
);

create table ledger_line (
  position bigint primary key,
  event uuid not null unique,
  seal bigint not null references ledger_seal
);

-- Append-only means: not even by mistake, not even by the owner of the tables.
create function ledger_is_append_only() returns trigger language plpgsql as $$
begin
  raise exception 'the ledger is append-only: % on % refused', tg_op, tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on consent_event
  for each statement execute function ledger_is_append_only();
create trigger append_only before update or delete or truncate on ledger_seal
  for each statement execute function ledger_is_append_only();
create trigger append_only before update or delete or truncate on ledger_line
  for each statement execute function ledger_is_append_only();

-- Flags ticked at checkout, held for a basket; not consent before promotion.
create table basket_consent (
  basket bigint not null check (basket > 0),
  uid_hash bytea not null,
  channel text not null,
  value boolean not null,
  stated_at timestamptz not null,
  evidence jsonb not null,
  expires_at timestamptz not null,
  consumed_at timestamptz,
  primary key (basket, uid_hash, channel)
) with (fillfactor = 80);
create index basket_consent_expires on basket_consent (expires_at);
