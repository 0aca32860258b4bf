-- What operators do with accounts, clients, keys and each other.

-- Nothing in it is personal, so that erasure leaves it as it is.
create table operator_event (
  id uuid primary key,
  at timestamptz not null,
  -- `operator:7`, `key:3`, `command`.
  actor text not null,
  kind text not null,
  -- No reference: the line outlives the account.
  account bigint,
  -- What it was done to where that is no account: id of a client, name of a key, an issuer.
  subject text,
  detail jsonb not null default '{}' check (jsonb_typeof(detail) = 'object'),
  reason text check (length(reason) <= 500)
);
create index operator_event_account on operator_event (account, id);

create trigger append_only before update or delete or truncate on operator_event
  for each statement execute function ledger_is_append_only();
revoke update, delete, truncate on operator_event from current_user;
