-- What the API needs of the database: requests that may be sent again, and secrets that are taken along.

-- Requests to the API that make something, by their Idempotency-Key, for a day: sent again, one is
-- answered as it was, and nothing is made twice.
create table mooring.repeatable_requests (
  id uuid primary key,
  workspace_id uuid not null,
  user_id uuid not null,
  key text not null check (length(key) between 1 and 255),
  -- A hash of what was asked, which other requests must not have the key of, and the answer once there is
  -- one. The first may be of a secret, and the second hold a token that is shown once: so both are sealed
  -- like a secret, and bound to this row.
  key_id text not null,
  iv bytea not null,
  ciphertext bytea not null,
  at timestamptz not null default now(),
  unique (workspace_id, user_id, key),
  foreign key (workspace_id, user_id) references public.members (workspace_id, user_id) on delete cascade
);
create index on mooring.repeatable_requests (at);
alter table mooring.repeatable_requests enable row level security;
alter table mooring.repeatable_requests force row level security;

-- Takes a key, or says who has it: the row's id is the given one for whoever took it.
create function mooring.begin_repeatable_request(new_id uuid, workspace uuid, person uuid, of_key text,
  sealed_with text, sealed_iv bytea, sealed bytea)
returns table (id uuid, key_id text, iv bytea, ciphertext bytea)
language plpgsql security definer set search_path = '' as $$
begin
  delete from mooring.repeatable_requests r where r.at < now() - interval '1 day';
  insert into mooring.repeatable_requests as r (id, workspace_id, user_id, key, key_id, iv, ciphertext)
  values (new_id, workspace, person, of_key, sealed_with, sealed_iv, sealed)
  on conflict on constraint repeatable_requests_workspace_id_user_id_key_key do nothing;
  return query
    select r.id, r.key_id, r.iv, r.ciphertext from mooring.repeatable_requests r
    where r.workspace_id = workspace and r.user_id = person and r.key = of_key;
end $$;

create function mooring.end_repeatable_request(request uuid, sealed_with text, sealed_iv bytea, sealed bytea)
returns void language sql security definer set search_path = '' as $$
  update mooring.repeatable_requests r set key_id = sealed_with, iv = sealed_iv, ciphertext = sealed
  where r.id = request
$$;

-- Nothing was made: the key is free again.
create function mooring.forget_repeatable_request(request uuid) returns void
language sql security definer set search_path = '' as $$
  delete from mooring.repeatable_requests r where r.id = request
$$;

revoke all on function mooring.begin_repeatable_request, mooring.end_repeatable_request,
  mooring.forget_repeatable_request from public;
grant execute on function mooring.begin_repeatable_request, mooring.end_repeatable_request,
  mooring.forget_repeatable_request to mooring_app;

-- What a workspace's servers of now hold of secrets, still sealed, for owners and admins to take along.
create function mooring.secrets_for_export(workspace uuid, person uuid)
returns table (id uuid, server_id uuid, name text, key_id text, iv bytea, ciphertext bytea)
language sql stable security definer set search_path = '' as $$
  select x.id, x.server_id, x.name, x.key_id, x.iv, x.ciphertext
  from public.secrets x
  join public.servers s on s.id = x.server_id and s.removed_at is null
  join public.server_generations g on g.server_id = s.id and g.generation = s.generation
  where x.workspace_id = workspace
    and g.config -> 'secrets' ->> x.name = x.id::text
    and exists (select from public.members m
      where m.workspace_id = workspace and m.user_id = person and m.role in ('owner', 'admin'))
$$;
revoke all on function mooring.secrets_for_export from public;
grant execute on function mooring.secrets_for_export to mooring_app;
