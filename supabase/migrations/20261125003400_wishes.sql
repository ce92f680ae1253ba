-- Wishes: what an agent that manages Mooring asks people to let it do, and what became of it.

-- What of its scopes an agent uses only when a person says yes to that one use.
alter table public.management_grants add column asks text[] not null default '{}';
update public.management_grants set asks = array_remove(scopes, 'read') where leaves_changes_to_people;
alter table public.management_grants drop column leaves_changes_to_people;
alter table public.management_grants add check (asks <@ scopes and not 'read' = any (asks));

drop function mooring.manager_of_agent(uuid);
-- As whom an agent manages Mooring, and what they are in its workspace now; no row when it may not.
create function mooring.manager_of_agent(agent uuid)
returns table (user_id uuid, email text, name text, workspace_id uuid, workspace_name text, role text,
  scopes text[], asks text[],
  -- What an app of before this migration asks, which must not take silence for a yes.
  leaves_changes_to_people boolean)
language sql stable security definer set search_path = '' as $$
  select p.user_id, p.email, p.name, w.id, w.name, m.role, g.scopes, g.asks, cardinality(g.asks) > 0
  from public.management_grants g
  join public.members m on m.workspace_id = g.workspace_id and m.user_id = g.granted_by
  join public.workspaces w on w.id = g.workspace_id
  join public.profiles p on p.user_id = g.granted_by
  where g.agent_id = agent
$$;

create table public.wishes (
  id uuid primary key,
  workspace_id uuid not null,
  agent_id uuid not null,
  operation text not null check (operation in ('deploy_server', 'connect_server')),
  -- Exactly what is asked, and what that was about then: the catalog's entry, or the server.
  asked jsonb not null,
  basis jsonb not null,
  -- Of what is asked: an identical wish is the one that is open.
  hash text not null,
  -- What it asks to do, in words that follow "asks to".
  wants text not null check (length(wants) between 1 and 200),
  -- The agent's own words.
  reason text check (length(reason) between 1 and 1000),
  state text not null default 'open'
    check (state in ('open', 'approved', 'rejected', 'withdrawn', 'expired')),
  created_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '7 days',
  decided_at timestamptz,
  decided_by uuid,
  -- What the person who rejected it said to the agent.
  answer text check (length(answer) between 1 and 1000),
  -- What was deployed, or connected to.
  server_id uuid references public.servers (id) on delete set null,
  foreign key (agent_id, workspace_id) references public.agents (id, workspace_id) on delete cascade,
  check ((state in ('approved', 'rejected')) = (decided_by is not null))
);
create unique index on public.wishes (agent_id, hash) where state = 'open';
create index on public.wishes (workspace_id, id) where state = 'open';
create index on public.wishes (workspace_id, id desc);
create index on public.wishes (agent_id, id desc);
create index on public.wishes (server_id);
revoke all on public.wishes from public, anon, authenticated;
alter table public.wishes enable row level security;
alter table public.wishes force row level security;

-- People read them and decide, each in their own name, once.
grant select, update (state, decided_at, decided_by, answer, server_id) on public.wishes to authenticated;
create policy person_reads on public.wishes for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy member_decides on public.wishes for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')) and state = 'open')
  with check (workspace_id in (select mooring.workspaces_as('member'))
    and state in ('approved', 'rejected') and decided_by = auth.uid());

-- An agent makes its own as far as it was granted, and takes them back.
grant select, insert (id, workspace_id, agent_id, operation, asked, basis, hash, wants, reason),
  update (state, decided_at) on public.wishes to mooring_agent;
create policy agent_reads on public.wishes for select to mooring_agent using (agent_id = mooring.agent_id());
create policy agent_inserts on public.wishes for insert to mooring_agent
  with check (agent_id = mooring.agent_id() and exists (
    select from public.management_grants g where g.agent_id = mooring.agent_id()
      and case operation when 'deploy_server' then 'servers:write' else 'agents:write' end = any (g.scopes)));
create policy agent_ends on public.wishes for update to mooring_agent
  using (agent_id = mooring.agent_id() and state = 'open')
  with check (agent_id = mooring.agent_id() and state in ('withdrawn', 'expired'));

create function mooring.wake_wish() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform pg_notify('mooring', json_build_object('table', 'wishes', 'workspace', new.workspace_id,
    'server', null, 'toolbox', null, 'agent', new.agent_id)::text);
  return null;
end $$;
create trigger wake after insert or update on public.wishes
  for each row execute function mooring.wake_wish();

-- Nobody writes a workspace's events but what makes them true.
create function mooring.tell_of_wish() returns trigger
language plpgsql security definer set search_path = '' as $$
declare agent text;
begin
  select a.name into agent from public.agents a where a.id = new.agent_id;
  if tg_op = 'INSERT' then
    insert into public.events (workspace_id, layer, message)
    values (new.workspace_id, 'workspace', agent || ' asks to ' || new.wants);
  elsif new.state <> old.state and new.state <> 'expired' then
    insert into public.events (workspace_id, layer, actor, message)
    values (new.workspace_id, 'workspace', new.decided_by, case new.state
      when 'approved' then 'Approved what ' || agent || ' asked for: to ' || new.wants
      when 'rejected' then 'Rejected what ' || agent || ' asked for: to ' || new.wants
      else agent || ' took back what it asked for: to ' || new.wants end);
  end if;
  return null;
end $$;
create trigger tell after insert or update on public.wishes
  for each row execute function mooring.tell_of_wish();

create function mooring.tell_of_management_grant() returns trigger
language plpgsql security definer set search_path = '' as $$
declare agent text;
begin
  select a.name into agent from public.agents a where a.id = coalesce(new.agent_id, old.agent_id);
  -- The agent is gone, or what it may was only said anew.
  if agent is null or (tg_op = 'DELETE' and exists (
    select from public.management_grants g where g.agent_id = old.agent_id)) then
    return null;
  end if;
  insert into public.events (workspace_id, layer, actor, message)
  values (coalesce(new.workspace_id, old.workspace_id), 'workspace', auth.uid(),
    case tg_op when 'DELETE' then agent || ' may not manage Mooring any more'
    else agent || ' may manage Mooring: ' || (
      select string_agg(case scope when 'read' then 'read' when 'servers:write' then 'deploy servers'
          else 'connect itself to servers' end
        || case when scope = any (new.asks) then ' when a person approves' else '' end, ', ')
      from unnest(new.scopes) as scope) end);
  return null;
end $$;
-- At the end: what an agent may is said anew by taking away what was said before.
create constraint trigger tell after insert or delete on public.management_grants
  deferrable initially deferred for each row execute function mooring.tell_of_management_grant();

revoke all on function mooring.manager_of_agent, mooring.wake_wish, mooring.tell_of_wish,
  mooring.tell_of_management_grant from public;
grant execute on function mooring.manager_of_agent to mooring_app;
