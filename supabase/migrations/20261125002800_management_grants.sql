-- What an agent may do with Mooring itself, as the admin or owner who granted it.

create table public.management_grants (
  agent_id uuid primary key,
  workspace_id uuid not null,
  granted_by uuid not null,
  scopes text[] not null
    check (cardinality(scopes) >= 1 and scopes <@ array['read', 'servers:write', 'agents:write']),
  -- What changes something is for a person: the agent is told where.
  leaves_changes_to_people boolean not null default true,
  created_at timestamptz not null default now(),
  foreign key (agent_id, workspace_id) references public.agents (id, workspace_id) on delete cascade,
  -- The agent acts as this person: once they leave, it may nothing.
  foreign key (workspace_id, granted_by) references public.members (workspace_id, user_id) on delete cascade
);
create index on public.management_grants (workspace_id, granted_by);
revoke all on public.management_grants from public, anon, authenticated;
alter table public.management_grants enable row level security;
alter table public.management_grants force row level security;
grant select, insert, delete on public.management_grants to authenticated;
grant select on public.management_grants to mooring_agent;
create policy person_reads on public.management_grants for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
-- In one's own name alone, and not with a token or by an agent: either could give itself more.
create policy admin_inserts on public.management_grants for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('admin')) and granted_by = auth.uid()
    and mooring.claim('mooring_workspace') is null);
create policy admin_deletes on public.management_grants for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')) and mooring.claim('mooring_workspace') is null);
create policy agent_reads on public.management_grants for select to mooring_agent
  using (agent_id = mooring.agent_id());

create function mooring.wake_management_grant() returns trigger
language plpgsql security definer set search_path = '' as $$
declare changed record;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  perform pg_notify('mooring', json_build_object('table', 'management_grants', 'workspace', changed.workspace_id,
    'server', null, 'toolbox', null, 'agent', changed.agent_id)::text);
  return null;
end $$;
create trigger wake after insert or update or delete on public.management_grants
  for each row execute function mooring.wake_management_grant();

-- As whom an agent manages Mooring, and what they are in its workspace now; no row when it may not.
create function mooring.manager_of_agent(agent uuid)
returns table (user_id uuid, email text, name text, workspace_id uuid, workspace_name text, role text,
  scopes text[], leaves_changes_to_people boolean)
language sql stable security definer set search_path = '' as $$
  select p.user_id, p.email, p.name, w.id, w.name, m.role, g.scopes, g.leaves_changes_to_people
  from public.management_grants g
  join public.members m on m.workspace_id = g.workspace_id and m.user_id = g.granted_by
  join public.workspaces w on w.id = g.workspace_id
  join public.profiles p on p.user_id = g.granted_by
  where g.agent_id = agent
$$;
revoke all on function mooring.wake_management_grant, mooring.manager_of_agent from public;
grant execute on function mooring.manager_of_agent to mooring_app;
