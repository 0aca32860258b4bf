-- Staff permissions a franchise can trust: rights as pairs with an end, their history, and the ways to sign in to use them.

-- ---- Rights ----

-- One right: this colleague may do this in this shop. What the documented wire shows (`entry.shop_ids`, `entry.permissions`)
-- names every shop and key of these rows, and besides them shops and keys that open nothing yet.
create table entry_right (
  entry bigint not null references entry on delete cascade,
  shop bigint not null references shop,
  permission text not null,
  -- From then on it holds no more, swept or not.
  until timestamptz,
  -- The line of the history that gave it.
  event uuid not null,
  -- With all that a decision reads: a table of millions is then read in one place instead of two.
  primary key (entry, shop, permission) include (until, event)
);
create index entry_right_shop on entry_right (shop, permission);
create index entry_right_until on entry_right (until) where until is not null;

-- The same for the entry of a colleague in a company.
alter table entry
  drop constraint entry_company_account_key,
  add constraint entry_company_account_key unique (company, account) include (id);

-- A right as the service reads it, its end in milliseconds since 1970. The planner puts the expression in place of the call.
create function in_short(r entry_right) returns jsonb language sql stable parallel safe
  return jsonb_build_array(r.shop, r.permission, (extract(epoch from r.until) * 1000)::bigint, r.event);

-- The history of a company: numbered, chained by hash, written under the lock of the company's row.
create table staff_event (
  id uuid primary key,
  company bigint not null,
  number bigint not null,
  kind text not null,
  entry bigint,
  account bigint,
  actor text not null,
  at timestamptz not null,
  -- All of it as JSON, the text the hash is over. The columns above repeat what is searched by.
  line text not null,
  -- SHA-256 of the hash before it and the line.
  hash bytea not null,
  unique (company, number)
);
create index staff_event_entry on staff_event (entry, number);
create index staff_event_account on staff_event (account, company, number);

-- From where a change came: personal, so kept apart; the line has a salted hash of it.
create table staff_evidence (
  event uuid primary key,
  salt bytea not null,
  evidence jsonb not null
);

-- End of the chain: the next line is number `events` + 1 and follows `head`.
alter table company
  add column events bigint not null default 0,
  add column head bytea not null default '\x',
  -- Keyed hash of the Idempotency-Key it was made with.
  add column request_key text constraint company_request_key unique;

-- What was there before there was a history is its first lines: each company with its shops and owner, then its entries.
do $$
declare
  one record;
  given uuid;
  text_ text;
begin
  for one in
    select c.id as company, null::bigint as entry, null::bigint as account, null::int as version, null::bigint[] as shop_ids,
           null::text[] as permissions from company c
    union all
    select e.company, e.id, e.account, e.version, e.shop_ids, e.permissions from entry e
    order by company, entry nulls first
  loop
    given := gen_random_uuid();
    select case when one.entry is null then
        json_build_object(
          'id', given, 'company', c.id, 'number', c.events + 1, 'kind', 'recorded',
          'actor', 'migration', 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'reason', null,
          'shops', (select coalesce(json_agg(s.id order by s.id), '[]') from shop s where s.company = c.id),
          'owner', json_build_array(null, c.owner),
          'shown', json_build_array(null, json_build_object('id', c.id, 'name', c.name, 'active', c.active)),
          'evidence', null)
      else
        json_build_object(
          'id', given, 'company', c.id, 'number', c.events + 1, 'kind', 'recorded', 'entry', one.entry, 'account', one.account,
          'actor', 'migration', 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'reason', null,
          'version', one.version, 'shop_ids', json_build_array(null, one.shop_ids),
          'permissions', json_build_array(null, one.permissions),
          'rights', (select coalesce(json_agg(json_build_object('shop', s, 'permission', p, 'before', null,
                                                                'after', json_build_object('until', null))), '[]')
                       from (select distinct s.id as s, p from unnest(one.shop_ids) u join shop s on s.id = u and s.company = c.id,
                                                               unnest(one.permissions) p) pair),
          'evidence', null)
      end::text
      into text_ from company c where c.id = one.company;
    insert into staff_event (id, company, number, kind, entry, account, actor, at, line, hash)
      select given, c.id, c.events + 1, 'recorded', one.entry, one.account, 'migration', date_trunc('milliseconds', now()), text_,
             sha256(c.head || convert_to(text_, 'UTF8')) from company c where c.id = one.company;
    insert into entry_right (entry, shop, permission, event)
      select distinct one.entry, s.id, p, given
        from unnest(one.shop_ids) u join shop s on s.id = u and s.company = one.company, unnest(one.permissions) p;
    update company c set events = events + 1, head = (select hash from staff_event where id = given) where c.id = one.company;
  end loop;
end $$;

create trigger append_only before update or delete or truncate on staff_event
  for each statement execute function ledger_is_append_only();
revoke update, delete, truncate on staff_event from current_user;

-- ---- Signing in ----

alter table oauth_client
  -- Compared letter by letter.
  add column redirect_uris text[] not null default '{}',
  -- The shop's own program: people are not asked whether it may act for them.
  add column first_party boolean not null default false,
  add column disabled_at timestamptz;

create table authorization_code (
  code_hash bytea primary key,
  client text not null references oauth_client on delete cascade,
  account bigint not null references account on delete cascade,
  redirect_uri text not null,
  -- base64url of the SHA-256 of the verifier (RFC 7636, S256).
  challenge text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  -- Seen again, the tokens it was exchanged for end.
  used_at timestamptz,
  family uuid
);
create index authorization_code_expires on authorization_code (expires_at);
create index authorization_code_account on authorization_code (account);

-- What their owner knows a sign-in by, in the list of them.
alter table session
  add column device_name text,
  add column user_agent text,
  -- When the first key of its family was made; each renewal makes new ones.
  add column signed_in_at timestamptz;
update session s set signed_in_at = (select min(created_at) from session f where f.family = s.family);
alter table session alter column signed_in_at set not null;

-- One-time passwords of an authenticator app (RFC 6238). The secret is encrypted under SECRET_KEY.
create table second_factor (
  account bigint primary key references account on delete cascade,
  secret bytea not null,
  created_at timestamptz not null,
  -- Null until a first code proved that the app has it.
  confirmed_at timestamptz,
  -- The time step of the last code that was taken: none is taken twice.
  last_step bigint not null default 0
);
create table recovery_code (
  account bigint not null references account on delete cascade,
  -- Keyed hash.
  code_hash bytea not null,
  used_at timestamptz,
  primary key (account, code_hash)
);
-- Beside the account, so that every request knows it without another read.
alter table account
  add column second_factor boolean not null default false,
  add column tin_nr text check (length(tin_nr) <= 50);

-- Whom an outside issuer (OpenID Connect) knows by this subject.
create table outside_identity (
  issuer text not null,
  subject text not null,
  account bigint not null references account on delete cascade,
  created_at timestamptz not null,
  last_used_at timestamptz not null,
  primary key (issuer, subject),
  -- A recycled e-mail address is not the person who had it.
  constraint outside_identity_account unique (account, issuer)
);

-- Revisions of the shop's policies that somebody accepted when registering.
create table accepted_policy (
  account bigint not null references account on delete cascade,
  revision bigint not null,
  accepted_at timestamptz not null,
  primary key (account, revision)
);

-- An invitation says which company it is from.
alter table mail_link add column company bigint references company;
