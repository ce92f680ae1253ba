-- Pins of what a server lists beside its tools, and what of a server an agent gets.

-- Prompts, resource templates (by their URI template) and the server's own instructions: as in
-- public.tools, served to agents only while hash = approved_hash.
create table public.definitions (
  server_id uuid not null,
  workspace_id uuid not null,
  kind text not null check (kind in ('prompt', 'template', 'instructions')),
  name text not null check (length(name) between 1 and 1024),
  definition json not null,
  hash text not null,
  -- False once the server no longer lists it.
  present boolean not null default true,
  approved_definition json,
  approved_hash text,
  approved_by uuid,
  approved_at timestamptz,
  first_seen_at timestamptz not null default now(),
  changed_at timestamptz not null default now(),
  primary key (server_id, kind, name),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);
revoke all on public.definitions from public, anon, authenticated;
alter table public.definitions enable row level security;
alter table public.definitions force row level security;

grant select on public.definitions to authenticated, mooring_toolbox, mooring_agent;
grant update (approved_definition, approved_hash, approved_by, approved_at) on public.definitions
  to authenticated;
-- Never an approval.
grant insert (server_id, workspace_id, kind, name, definition, hash),
  update (definition, hash, present, changed_at) on public.definitions to mooring_toolbox;

create policy person_reads on public.definitions for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy member_updates on public.definitions for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member'))
    and coalesce(approved_by, auth.uid()) = auth.uid());
create policy toolbox_writes on public.definitions for all to mooring_toolbox
  using (server_id in (select s.id from public.servers s))
  with check (server_id in (select s.id from public.servers s));
-- Never a definition that nobody approved.
create policy agent_reads on public.definitions for select to mooring_agent
  using (present and hash = approved_hash and server_id in (select c.server_id from public.connections c));

-- What of a server's tools an agent gets, and under which names: ConnectionOptions of
-- models/connection_options.ts.
alter table public.connections add column options jsonb not null default '{}';
grant update (options) on public.connections to authenticated;
create policy member_updates on public.connections for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member')));

alter table public.agents
  -- Of a server that is connected the agent gets no tool that was not picked.
  add column denies_by_default boolean not null default false,
  -- search: find_tools and call_tool in place of all definitions.
  add column presents text not null default 'tools' check (presents in ('tools', 'search'));
grant update (denies_by_default, presents) on public.agents to authenticated;

create trigger wake after insert or update or delete on public.definitions
  for each row execute function mooring.wake();

-- Whose instance of a server a call goes to, where an agent can read it: a generation's settings are
-- not for agents.
alter table public.servers add column instances text not null default 'shared'
  check (instances in ('shared', 'agent', 'session'));
create function mooring.note_instances() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.servers set instances = coalesce(new.config #>> '{options,instances}',
    new.config #>> '{entry,instances}', 'shared') where id = new.server_id;
  return null;
end $$;
revoke all on function mooring.note_instances from public;
create trigger note_instances after insert on public.server_generations
  for each row execute function mooring.note_instances();
update public.servers s set instances = coalesce(g.config #>> '{options,instances}',
  g.config #>> '{entry,instances}', 'shared')
  from public.server_generations g where g.server_id = s.id and g.generation = s.generation;
