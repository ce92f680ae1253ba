-- What the files before this one say of the same functions, together.

-- Nobody's by a password alone where the account has a second factor (20261126000201), and nobody's by the token of
-- a client that a project signed in (20261126000100): here that is an agent's.
create or replace function mooring.workspaces_as(minimum text) returns setof uuid
language sql stable security definer set search_path = '' as $$
  select workspace_id from public.members
  where user_id = auth.uid()
    and mooring.claim('client_id') is null
    and workspace_id = coalesce(mooring.claim('mooring_workspace')::uuid, workspace_id)
    and array_position(array['viewer', 'member', 'admin', 'owner'], role)
      >= array_position(array['viewer', 'member', 'admin', 'owner'], minimum)
    and case when coalesce(mooring.claim('aal'), 'aal2') = 'aal2' then true
      else not mooring.has_second_factor(auth.uid()) end
$$;

-- As in 20261126000100, with how far the client may go (20261126000400).
drop function mooring.agent_of_project_client;
create function mooring.agent_of_project_client(person uuid, session uuid, client text)
returns table (token_id uuid, agent_id uuid, workspace_id uuid, expires_at timestamptz, scope text)
language plpgsql stable security definer set search_path = '' as $$
begin
  return query
  select g.id, g.agent_id, g.workspace_id, g.expires_at, g.scope
  from auth.sessions s
  left join (public.agent_tokens g
    join public.members m on m.workspace_id = g.workspace_id and m.user_id = person
      and m.role in ('owner', 'admin', 'member'))
    on g.granted_by = person and g.client_id = client
      and g.revoked_at is null and (g.expires_at is null or g.expires_at > now())
      -- What was signed in under an older grant does not come back with a new one. Two clocks are compared.
      and s.created_at > g.created_at - interval '1 minute'
  where s.id = session and s.user_id = person
  order by g.id desc limit 1;
end $$;
revoke all on function mooring.agent_of_project_client from public;
grant execute on function mooring.agent_of_project_client to mooring_app;

-- The clients that are an agent for a person now, and need not ask them. One that called a tool beyond its scope
-- has to: the project would else let it in as before, unasked.
create or replace function mooring.clients_let_in(person uuid) returns setof text
language sql stable security definer set search_path = '' as $$
  select distinct g.client_id from public.agent_tokens g
  join public.members m on m.workspace_id = g.workspace_id and m.user_id = person
    and m.role in ('owner', 'admin', 'member')
  where g.granted_by = person and g.client_id is not null
    and g.revoked_at is null and (g.expires_at is null or g.expires_at > now())
    and (g.wanted_more_at is null or g.wanted_more_at < now() - interval '1 hour')
$$;
