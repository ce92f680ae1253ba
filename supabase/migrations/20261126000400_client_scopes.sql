-- How far a client may go that a person let act as an agent: calls of tools that only read, or of all.
alter table public.agent_tokens
  -- Null: all, as of a token that a person made.
  add column scope text check (scope in ('tools:read', 'tools')),
  -- When it last called a tool beyond its scope.
  add column wanted_more_at timestamptz;
update public.agent_tokens set scope = 'tools' where client_id is not null;
grant select (scope, wanted_more_at) on public.agent_tokens to authenticated;

-- A client called a tool beyond its scope. One that does nothing else costs a write in five seconds.
create function mooring.client_wanted_more(token uuid) returns void
language sql security definer set search_path = '' as $$
  update public.agent_tokens set wanted_more_at = now()
  where id = token and scope = 'tools:read'
    and (wanted_more_at is null or wanted_more_at < now() - interval '5 seconds')
$$;
revoke all on function mooring.client_wanted_more from public;
grant execute on function mooring.client_wanted_more to mooring_app;

-- The person who let a client in decides again, after it asked for more: that is the grant that it has, as far
-- as before or further. No row when it has none that asked.
create function mooring.step_up_client_grant(agent uuid, client text, granted text) returns setof uuid
language sql security definer set search_path = '' as $$
  update public.agent_tokens
  set scope = case granted when 'tools' then granted else scope end, wanted_more_at = null
  where id = (
    select t.id from public.agent_tokens t
    where t.agent_id = agent and t.client_id = client and t.granted_by = auth.uid()
      and t.workspace_id in (select mooring.workspaces_as('member'))
      and t.scope = 'tools:read' and t.wanted_more_at > now() - interval '1 hour'
      and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
    order by t.wanted_more_at desc limit 1)
  returning id
$$;
revoke all on function mooring.step_up_client_grant from public;
grant execute on function mooring.step_up_client_grant to authenticated;

-- The clients of a Supabase project that are an agent for a person now, and need not ask them. One that called a
-- tool beyond its scope has to: the project would else let it in as before, unasked.
create function mooring.clients_let_in(person uuid) returns setof text
language sql stable security definer set search_path = '' as $$
  select distinct g.client_id from public.agent_tokens g
  join public.members m on m.workspace_id = g.workspace_id and m.user_id = person
    and m.role in ('owner', 'admin', 'member')
  where g.granted_by = person and g.client_id is not null
    and g.revoked_at is null and (g.expires_at is null or g.expires_at > now())
    and (g.wanted_more_at is null or g.wanted_more_at < now() - interval '1 hour')
$$;
revoke all on function mooring.clients_let_in from public;
grant execute on function mooring.clients_let_in to mooring_app;

-- Where a Supabase project signs clients in there are no tokens of ours.
do $$ begin
  if to_regclass('auth.oauth_access_tokens') is null then return; end if;

  -- As before, and in no scope that its grant is not.
  create or replace function mooring.agent_of_client_token(hash text)
  returns table (token_id uuid, agent_id uuid, workspace_id uuid, expires_at timestamptz,
    resources jsonb, scopes jsonb)
  language sql stable security definer set search_path = '' as $f$
    select g.id, g.agent_id, g.workspace_id, least(t."expiresAt", g.expires_at),
      t.resources::jsonb,
      case when g.scope = 'tools:read' then t.scopes::jsonb - 'tools' else t.scopes::jsonb end
    from auth.oauth_access_tokens t
    join public.agent_tokens g on g.id = t."referenceId"
    join public.members m on m.workspace_id = g.workspace_id and m.user_id = t."userId"
      and m.role in ('owner', 'admin', 'member')
    where t.token = hash and t.revoked is null and t."expiresAt" > now()
      and g.revoked_at is null and (g.expires_at is null or g.expires_at > now())
  $f$;

  -- Whether the client of a refresh token was just told that its scope is too little.
  create function mooring.client_wants_more(hash text) returns boolean
  language sql stable security definer set search_path = '' as $f$
    select exists (
      select from auth.oauth_refresh_tokens r
      join public.agent_tokens g on g.id = r."referenceId"
      where r.token = hash and g.scope = 'tools:read'
        and g.wanted_more_at > now() - interval '30 seconds')
  $f$;
  revoke all on function mooring.client_wants_more from public;
  grant execute on function mooring.client_wants_more to mooring_app;
end $$;
