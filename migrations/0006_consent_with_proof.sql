-- Consent with proof: notices, what a line says of its notice and its outcome, the whole projection, links that can be revoked.

-- The exact texts people see when they decide. A text that changes is a new version; nothing here is ever changed.
create table notice (
  id bigint generated always as identity primary key,
  purpose text not null,
  channels text[] not null check (cardinality(channels) > 0),
  language text not null,
  version text not null,
  text text not null,
  -- SHA-256 of `text` in UTF-8: what lines of the ledger name.
  text_sha256 bytea not null,
  -- How a person takes the consent back, in words.
  withdrawal text not null,
  valid_from timestamptz not null,
  created_at timestamptz not null,
  created_by text not null,
  unique (purpose, language, version)
);
create trigger append_only before update or delete or truncate on notice
  for each statement execute function ledger_is_append_only();

-- Lines written before this migration have null in `proven`: their hash covers fewer fields.
alter table consent_event
  -- The account had proven the address when it said so.
  add column proven boolean,
  -- `applied`, or the rule that kept the line from changing anything.
  add column outcome text not null default 'applied',
  add column notice bigint;

alter table consent_state
  drop constraint consent_state_state_check,
  add constraint consent_state_state_check
    check (state in ('unknown', 'pending', 'granted', 'withdrawn', 'expired', 'refused', 'suppressed')),
  -- When the newest line that counts was said: `since` stays when an open request changes no state.
  add column latest timestamptz,
  -- The line that asked the person to confirm, while nobody has answered it.
  add column request uuid,
  -- What a suppression covers and its lifting brings back.
  add column beneath text,
  add column beneath_since timestamptz,
  -- Of the deciding line: a decision gives its reason without reading it.
  add column kind text,
  add column source text;
-- Lines of before do not say whether the address was proven, and what is rebuilt must equal what is here.
update consent_state s set latest = s.since, proven = false, kind = e.kind, source = e.source
  from consent_event e where e.id = s.event;
alter table consent_state
  alter column latest set not null,
  alter column kind set not null,
  alter column source set not null;
-- No index names what changes with every consent (state, since, latest): updates could not stay in their page any more.
create index consent_state_request on consent_state (contact_point) where request is not null;

-- Erased: the address has gone, its keyed hash stays, and no import writes the address back.
alter table contact_point
  add column erased_at timestamptz,
  -- Links of another generation than this open nothing any more.
  add column link_generation integer not null default 1;
alter table account add column link_generation integer not null default 1;
-- The kind is part of what is hashed: an address is found by its hash alone.
alter table contact_point drop constraint contact_point_kind_address_hash_key;
create unique index contact_point_address on contact_point (address_hash);

-- The lines a promotion led to: a repeated call gets the same answer.
alter table basket_consent
  add column event uuid,
  add column outcome text;

-- A foreign key locks what it refers to, which needs the very right that goes now; `ledger verify` checks it instead.
alter table ledger_line drop constraint ledger_line_seal_fkey;
-- Verifying reads one seal after the other.
create index ledger_line_seal on ledger_line (seal);

-- Whoever owns the tables gives up what the service never needs; the trigger stands for superusers, who cannot.
revoke update, delete, truncate on consent_event, ledger_seal, ledger_line, notice from current_user;

-- Idempotency keys of callers, with what they were used for: the calls themselves can be repeated, a key cannot be reused.
create table idempotency_key (
  key_hash bytea primary key,
  request_hash bytea not null,
  created_at timestamptz not null
);
create index idempotency_key_created on idempotency_key (created_at);
