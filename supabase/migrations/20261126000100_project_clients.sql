-- MCP clients that a Supabase project's own OAuth server signs in. Their tokens say whose they are and which
-- client has them; which agent that is, says the grant that the person gave on Mooring's page.

create index on public.agent_tokens (granted_by, client_id) where client_id is not null;

-- Which agent a client is for a person, while they may let it be one. No row when its sign-in has ended; a row
-- of nulls when it goes on, and the client is no agent here. How far it may go is in its grant (20261126000400).
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

-- A client is one agent for a person: their newest word stands.
create function mooring.end_older_client_grants(newest uuid) returns void
language sql security definer set search_path = '' as $$
  update public.agent_tokens o set revoked_at = now() from public.agent_tokens n
  where n.id = newest and o.granted_by = n.granted_by and o.client_id = n.client_id
    and o.id < n.id and o.revoked_at is null
$$;

revoke all on function mooring.agent_of_project_client, mooring.end_older_client_grants from public;
grant execute on function mooring.agent_of_project_client, mooring.end_older_client_grants to mooring_app;

-- Such a token opens the project's Data API as its person. Here it is an agent's, and nobody in these tables: nor
-- in those that go by mooring.workspaces_as (20261126000201).
create or replace function mooring.person() returns uuid language plpgsql stable set search_path = '' as $$
begin
  if auth.uid() is null or mooring.claim('mooring_workspace') is not null
    or mooring.claim('client_id') is not null then
    raise exception 'Only a person who is signed in may do this' using errcode = '42501';
  end if;
  return auth.uid();
end $$;

alter policy person_reads on public.profiles using (
  mooring.claim('client_id') is null
  and (user_id = auth.uid() or user_id in (select m.user_id from public.members m))
);
