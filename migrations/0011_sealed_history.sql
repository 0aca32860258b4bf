-- The history of companies, sealed: a chain of signed heads over the ends of the companies' own chains. Without it, whoever
-- can write everything could cut the last lines off and set the company's counter back, and nobody would see.

-- Lines whose company waits for the sealer. One row a line, so that a transaction that commits late is never passed over.
create table staff_unsealed (
  event uuid primary key,
  company bigint not null
);

create table staff_seal (
  number bigint primary key,
  -- JSON: [company, number of its last line, hash of it in hex], of each company that went on since the seal before.
  ends text not null,
  -- Head of the seal before.
  previous bytea not null,
  head bytea not null unique,
  sealed_at timestamptz not null,
  -- Ed25519 over the head.
  signature bytea not null
);
create trigger append_only before update or delete or truncate on staff_seal
  for each statement execute function ledger_is_append_only();
revoke update, delete, truncate on staff_seal from current_user;

insert into staff_unsealed (event, company)
select e.id, e.company from company c join staff_event e on e.company = c.id and e.number = c.events;
