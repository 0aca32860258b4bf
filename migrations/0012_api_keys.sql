-- API keys are listed and revoked by name, and say who made them.

-- Keys outlive whoever made them: an operator who leaves may have left some.
alter table api_key add created_by text not null default 'command';
alter table api_key alter created_by drop default;
-- Keys are revoked by name: where two that work share one, the younger is told apart by its id.
update api_key k set name = format('%s (key %s)', k.name, k.id)
 where k.revoked_at is null
   and exists (select from api_key o where o.name = k.name and o.revoked_at is null and o.id < k.id);
create unique index api_key_name on api_key (name) where revoked_at is null;
