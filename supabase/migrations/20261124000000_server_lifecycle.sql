-- What a server's life needs beyond the first deploy: generations that roll back, secrets that belong
-- to a generation, what its container takes, and what it wanted to reach and may not.

alter table public.observations
  -- The generation that answers calls: an older one until the present one is ready.
  add column serving_generation integer,
  add column gave_up boolean not null default false,
  add column health jsonb,
  add column instances jsonb not null default '[]',
  add column volumes jsonb not null default '[]';

alter table public.server_generations
  -- When its tools were first listed: a generation that can be rolled back to.
  add column ready_at timestamptz,
  -- Of one that the app made because the one before did not get ready: whose settings it has.
  add column rolled_back_to integer;

-- Asked for at its removal: the volumes go too.
alter table public.servers add column delete_volumes boolean not null default false;
grant update (delete_volumes) on public.servers to authenticated;

-- A generation's config names the secrets it uses by id, so that an older generation's still open.
alter table public.secrets drop constraint secrets_server_id_name_key;
create index on public.secrets (server_id, name);
update public.server_generations g set config = jsonb_set(config - 'secretNames', '{secrets}',
  coalesce((select jsonb_object_agg(x.name, x.id) from public.secrets x where x.server_id = g.server_id), '{}'));

create table public.server_samples (
  server_id uuid not null,
  workspace_id uuid not null,
  -- Whose instance; empty for the shared one.
  instance text not null default '',
  at timestamptz not null,
  cpus double precision not null,
  memory_bytes bigint not null,
  received_bytes bigint not null,
  sent_bytes bigint not null,
  pids integer not null,
  primary key (server_id, instance, at),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);

-- What the egress proxy refused, counted. One row a host, port and reason.
create table public.egress_denials (
  server_id uuid not null,
  workspace_id uuid not null,
  host text not null check (length(host) between 1 and 253),
  port integer not null check (port between 0 and 65535),
  reason text not null,
  count bigint not null default 1,
  first_at timestamptz not null,
  last_at timestamptz not null,
  primary key (server_id, host, port),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);

do $$
declare t text;
begin
  foreach t in array array['server_samples', 'egress_denials'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', t);
    execute format('alter table public.%I enable row level security', t);
    execute format('alter table public.%I force row level security', t);
    execute format('grant select on public.%I to authenticated', t);
    execute format($p$create policy person_reads on public.%I for select to authenticated
      using (workspace_id in (select mooring.workspaces_as('viewer')))$p$, t);
    execute format('grant select, insert, update, delete on public.%I to mooring_toolbox', t);
    execute format($p$create policy toolbox_writes on public.%I for all to mooring_toolbox
      using (server_id in (select s.id from public.servers s))
      with check (server_id in (select s.id from public.servers s))$p$, t);
  end loop;
end $$;
-- A person allows or dismisses what was refused: then it is no longer listed.
grant delete on public.egress_denials to authenticated;
create policy member_deletes on public.egress_denials for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')));

grant update (ready_at) on public.server_generations to mooring_toolbox;
create policy toolbox_updates on public.server_generations for update to mooring_toolbox
  using (server_id in (select s.id from public.servers s))
  with check (server_id in (select s.id from public.servers s));

-- A generation that its toolbox gave up, and that never was ready, is followed by one with the
-- settings of the last that was. Called by the toolbox, for a server of its own; once.
create function mooring.roll_back(server uuid, failed integer) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  of_server public.servers;
  last_good public.server_generations;
  given_up public.server_generations;
begin
  select s.* into of_server from public.servers s
  where s.id = server and s.toolbox_id = mooring.toolbox_id() and s.generation = failed
    and s.running and s.removed_at is null
  for no key update;
  if not found then return null; end if;
  select g.* into given_up from public.server_generations g where g.server_id = server and g.generation = failed;
  -- One that was ready once, or is a way back itself, is not gone back from.
  if given_up.ready_at is not null or given_up.rolled_back_to is not null then return null; end if;
  select g.* into last_good from public.server_generations g
  where g.server_id = server and g.generation < failed and g.ready_at is not null
  order by g.generation desc limit 1;
  if not found or last_good.config = given_up.config then return null; end if;
  insert into public.server_generations (server_id, workspace_id, generation, config, rolled_back_to)
  values (server, of_server.workspace_id, failed + 1, last_good.config,
    coalesce(last_good.rolled_back_to, last_good.generation));
  update public.servers set generation = failed + 1 where id = server;
  insert into public.events (workspace_id, server_id, layer, level, message)
  values (of_server.workspace_id, server, 'request', 'warning',
    format('Generation %s did not get ready, so the settings of generation %s are back', failed,
      coalesce(last_good.rolled_back_to, last_good.generation)));
  return failed + 1;
end $$;
revoke all on function mooring.roll_back from public;
grant execute on function mooring.roll_back to mooring_toolbox;

create or replace function mooring.wake() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  -- Field by field: a whole row as jsonb would fail on what json columns may hold (\u0000).
  changed record;
  server uuid;
  toolbox uuid;
  agent uuid;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  if tg_table_name = 'servers' then
    server := changed.id;
    toolbox := changed.toolbox_id;
  elsif tg_table_name = 'toolboxes' then
    toolbox := changed.id;
  elsif tg_table_name = 'agents' then
    agent := changed.id;
  elsif tg_table_name = 'agent_tokens' then
    agent := changed.agent_id;
  elsif tg_table_name = 'connections' then
    server := changed.server_id;
    agent := changed.agent_id;
  else -- what hangs on a server
    server := changed.server_id;
  end if;
  perform pg_notify('mooring', json_build_object('table', tg_table_name, 'workspace', changed.workspace_id,
    'server', server, 'toolbox', toolbox, 'agent', agent)::text);
  return null;
end $$;
create trigger wake after insert or update or delete on public.egress_denials
  for each row execute function mooring.wake();
create trigger wake after insert on public.server_samples
  for each row execute function mooring.wake();
