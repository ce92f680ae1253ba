-- Values of a server's secrets for one agent alone: its instance of the server is started with them.

create table public.connection_secrets (
  id uuid primary key,
  workspace_id uuid not null,
  agent_id uuid not null,
  server_id uuid not null,
  name text not null check (length(name) between 1 and 128),
  -- Sealed as in public.secrets.
  key_id text not null,
  iv bytea not null,
  ciphertext bytea not null,
  created_at timestamptz not null default now(),
  unique (agent_id, server_id, name),
  foreign key (agent_id, server_id) references public.connections (agent_id, server_id) on delete cascade,
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);
create index on public.connection_secrets (server_id);
revoke all on public.connection_secrets from public, anon, authenticated;
alter table public.connection_secrets enable row level security;
alter table public.connection_secrets force row level security;

-- Never a ciphertext.
grant select (id, workspace_id, agent_id, server_id, name, key_id, created_at) on public.connection_secrets
  to authenticated;
grant insert, delete on public.connection_secrets to authenticated;
create policy person_reads on public.connection_secrets for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy member_inserts on public.connection_secrets for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')));
create policy member_deletes on public.connection_secrets for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')));

grant select on public.connection_secrets to mooring_toolbox;
create policy toolbox_reads on public.connection_secrets for select to mooring_toolbox
  using (server_id in (select s.id from public.servers s));

-- That there are some of its own: without an instance of its own it must not be given the others'.
grant select (id, workspace_id, agent_id, server_id, name) on public.connection_secrets to mooring_agent;
create policy agent_reads on public.connection_secrets for select to mooring_agent
  using (agent_id = mooring.agent_id());

create trigger raise_desired_version after insert or delete on public.connection_secrets
  for each row execute function mooring.raise_desired_version_of_server();
