-- The one schema, for a Supabase project, any Postgres (15 or later) and the embedded one.
-- What Supabase brings and others lack (roles, auth.uid(), auth.users) is made by
-- models/supabase_compat.sql before this file runs, there only.
--
-- Who reads and writes (each by a role of its own, chosen per transaction with SET LOCAL ROLE):
--   authenticated    a person, by auth.uid() and their membership in a workspace
--   mooring_agent    an agent, by the claim agent_id
--   mooring_toolbox  a toolbox's DTMA, by the claim toolbox_id
--   mooring_app      the app itself between these: it may become one of them, and call the
--                    functions granted to it at the end of this file. It owns and sees no row.

do $$ begin
  if not (select rolsuper or rolbypassrls from pg_roles where rolname = current_user) then
    raise exception 'Migrations need a role that is a superuser or has BYPASSRLS; % has neither', current_user;
  end if;
  if not exists (select from pg_roles where rolname = 'mooring_app') then
    create role mooring_app nologin noinherit nobypassrls;
  end if;
  if not exists (select from pg_roles where rolname = 'mooring_agent') then
    create role mooring_agent nologin nobypassrls;
  end if;
  if not exists (select from pg_roles where rolname = 'mooring_toolbox') then
    create role mooring_toolbox nologin nobypassrls;
  end if;
end $$;
grant authenticated, mooring_agent, mooring_toolbox to mooring_app;
do $$ begin
  execute format('grant mooring_app to %I', current_user);
end $$;

create schema mooring;
grant usage on schema mooring to authenticated, mooring_agent, mooring_toolbox, mooring_app;
grant usage on schema public to authenticated, mooring_agent, mooring_toolbox, mooring_app;

-- ── Tables ──────────────────────────────────────────────────────────────────────────────────────

create table public.profiles (
  user_id uuid primary key references auth.users (id) on delete cascade,
  email text not null,
  name text not null default ''
);

create table public.workspaces (
  id uuid primary key,
  name text not null check (length(name) between 1 and 80),
  created_at timestamptz not null default now()
);

create table public.members (
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  role text not null check (role in ('owner', 'admin', 'member', 'viewer')),
  created_at timestamptz not null default now(),
  primary key (workspace_id, user_id)
);
create index on public.members (user_id);

create table public.toolboxes (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  name text not null check (length(name) between 1 and 80),
  -- A local toolbox is this machine's, run by the app's own start; only it may be reached over
  -- plain HTTP on the loopback address.
  is_local boolean not null default false,
  public_key text,
  enrolment_hash text unique,
  enrolment_expires_at timestamptz,
  revoked_at timestamptz,
  -- HostFacts of dtma/protocol.ts, as the DTMA last reported them.
  facts jsonb,
  last_seen_at timestamptz,
  -- Grows with each change of what this toolbox should run; the DTMA pulls when its own differs.
  desired_version bigint not null default 0,
  report_epoch uuid,
  report_sequence bigint,
  created_at timestamptz not null default now(),
  unique (id, workspace_id)
);
create index on public.toolboxes (workspace_id);

-- workspace_id null: built in, for everyone.
create table public.catalog_entries (
  id uuid primary key,
  workspace_id uuid references public.workspaces (id) on delete cascade,
  source text not null,
  slug text not null,
  entry jsonb not null,
  search tsvector generated always as (
    setweight(to_tsvector('simple', coalesce(entry ->> 'title', '')), 'A') ||
    setweight(to_tsvector('english', coalesce(entry ->> 'summary', '')), 'B') ||
    setweight(to_tsvector('simple', translate(coalesce(entry #>> '{package,name}', ''), '@/-_.', '     ')), 'B') ||
    setweight(to_tsvector('english', coalesce(entry ->> 'category', '') || ' ' || coalesce(entry ->> 'description', '')), 'C')
  ) stored,
  updated_at timestamptz not null default now(),
  unique nulls not distinct (workspace_id, source, slug)
);
create index on public.catalog_entries using gin (search);

create table public.servers (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  toolbox_id uuid not null,
  catalog_entry_id uuid references public.catalog_entries (id) on delete set null,
  name text not null check (length(name) between 1 and 80),
  -- In container names and in the tool names that agents see; unique in its workspace.
  slug text not null check (slug ~ '^[a-z0-9][a-z0-9-]{0,40}$'),
  generation integer not null default 1 check (generation > 0),
  running boolean not null default true,
  -- Set when a person removed the server; the row goes when its toolbox reports that all is gone.
  removed_at timestamptz,
  -- From the deploy form: the same form sent twice makes one server.
  idempotency_key uuid not null,
  created_by uuid,
  created_at timestamptz not null default now(),
  unique (id, workspace_id),
  unique (workspace_id, slug),
  unique (workspace_id, idempotency_key),
  foreign key (toolbox_id, workspace_id) references public.toolboxes (id, workspace_id)
);
create index on public.servers (toolbox_id);

-- What a server should be, by number. Rows are never changed; every change makes a new one.
create table public.server_generations (
  server_id uuid not null,
  workspace_id uuid not null,
  generation integer not null check (generation > 0),
  -- ServerConfig of models/servers.ts: catalog entry as it was, and the values given, less secrets.
  config jsonb not null,
  created_by uuid,
  created_at timestamptz not null default now(),
  primary key (server_id, generation),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);

create table public.secrets (
  id uuid primary key,
  workspace_id uuid not null,
  server_id uuid not null,
  name text not null check (length(name) between 1 and 128),
  -- AES-256-GCM; the key is outside the database, key_id says which. The row's id is authenticated
  -- with it, so that a ciphertext moved to another row does not open.
  key_id text not null,
  iv bytea not null,
  ciphertext bytea not null,
  created_at timestamptz not null default now(),
  unique (server_id, name),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);

-- What the toolbox last saw of a server (Observation of dtma/protocol.ts).
create table public.observations (
  server_id uuid primary key,
  workspace_id uuid not null,
  generation integer not null,
  layers jsonb not null,
  image_digest text,
  container_id text,
  -- json, not jsonb: as the server sent it, which jsonb would refuse (\u0000) or reorder.
  server_info json,
  restarts integer not null default 0,
  log_tail json not null default '[]',
  observed_at timestamptz not null default now(),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);

-- A server's tools with the pins: served to agents only while hash = approved_hash.
create table public.tools (
  server_id uuid not null,
  workspace_id uuid not null,
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
  primary key (server_id, name),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);

create table public.agents (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  name text not null check (length(name) between 1 and 80),
  created_by uuid,
  created_at timestamptz not null default now(),
  unique (id, workspace_id)
);
create index on public.agents (workspace_id);

create table public.agent_tokens (
  id uuid primary key,
  workspace_id uuid not null,
  agent_id uuid not null,
  name text not null check (length(name) between 1 and 80),
  -- SHA-256 of a 256-bit random token; the token itself is shown once and not kept.
  token_hash text not null unique,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  foreign key (agent_id, workspace_id) references public.agents (id, workspace_id) on delete cascade
);
create index on public.agent_tokens (agent_id);

create table public.connections (
  agent_id uuid not null,
  server_id uuid not null,
  workspace_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (agent_id, server_id),
  foreign key (agent_id, workspace_id) references public.agents (id, workspace_id) on delete cascade,
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);
create index on public.connections (server_id);

-- Append-only. No foreign key to servers: the history outlives them.
create table public.events (
  id bigint generated always as identity primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  server_id uuid,
  at timestamptz not null default now(),
  layer text not null check (layer in ('request', 'image', 'container', 'handshake', 'tools', 'toolbox')),
  level text not null default 'info' check (level in ('info', 'warning', 'error')),
  -- The person who caused it, if one did.
  actor uuid,
  message text not null
);
create index on public.events (server_id, id desc);
create index on public.events (workspace_id, id desc);

create table public.calls (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  agent_id uuid references public.agents (id) on delete set null,
  server_id uuid references public.servers (id) on delete set null,
  server_slug text not null,
  tool text not null,
  -- bridge: an agent called; trial: a person tried the tool on its page.
  via text not null check (via in ('bridge', 'trial')),
  started_at timestamptz not null,
  duration_ms double precision not null,
  outcome text not null check (outcome in ('ok', 'tool_error', 'error', 'cancelled', 'indeterminate')),
  error text,
  request_bytes integer not null,
  response_bytes integer not null
);
create index on public.calls (agent_id, started_at desc);
create index on public.calls (server_id, started_at desc);
create index on public.calls (workspace_id, started_at desc);

-- Signatures' nonces that were seen, so that a replay to another replica is refused too.
create table mooring.nonces (
  key_id text not null,
  nonce text not null,
  seen_at timestamptz not null default now(),
  primary key (key_id, nonce)
);
create index on mooring.nonces (seen_at);

-- ── Who is asking ───────────────────────────────────────────────────────────────────────────────

create function mooring.claim(name text) returns text language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> name
$$;

create function mooring.agent_id() returns uuid language sql stable as $$
  select mooring.claim('agent_id')::uuid
$$;

create function mooring.toolbox_id() returns uuid language sql stable as $$
  select mooring.claim('toolbox_id')::uuid
$$;

-- The workspaces in which the person has at least the given role. As its definer: a policy on
-- members that read members would recurse.
create function mooring.workspaces_as(minimum text) returns setof uuid
language sql stable security definer set search_path = '' as $$
  select workspace_id from public.members
  where user_id = auth.uid()
    and array_position(array['viewer', 'member', 'admin', 'owner'], role)
      >= array_position(array['viewer', 'member', 'admin', 'owner'], minimum)
$$;

-- ── Policies ────────────────────────────────────────────────────────────────────────────────────
-- Supabase's defaults grant everything on new tables to anon and authenticated: take it back first.

do $$
declare t text;
begin
  foreach t in array array['profiles', 'workspaces', 'members', 'toolboxes', 'catalog_entries', 'servers',
    'server_generations', 'secrets', 'observations', 'tools', 'agents', 'agent_tokens', 'connections',
    'events', 'calls'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', t);
    execute format('alter table public.%I enable row level security', t);
    execute format('alter table public.%I force row level security', t);
  end loop;
end $$;
alter table mooring.nonces enable row level security;
alter table mooring.nonces force row level security;

-- People: read as a viewer.
grant select on public.profiles, public.workspaces, public.members, public.catalog_entries, public.servers,
  public.server_generations, public.observations, public.tools, public.agents, public.connections,
  public.events, public.calls to authenticated;
-- Never a hash or a ciphertext.
grant select (id, workspace_id, name, is_local, public_key, enrolment_expires_at, revoked_at, facts, last_seen_at,
  desired_version, created_at) on public.toolboxes to authenticated;
grant select (id, workspace_id, agent_id, name, created_at, expires_at, revoked_at, last_used_at)
  on public.agent_tokens to authenticated;
grant select (id, workspace_id, server_id, name, key_id, created_at) on public.secrets to authenticated;

create policy person_reads on public.profiles for select to authenticated using (
  user_id = auth.uid()
  or user_id in (select m.user_id from public.members m)
);
create policy person_reads on public.workspaces for select to authenticated
  using (id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.members for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.toolboxes for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.catalog_entries for select to authenticated
  using (workspace_id is null or workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.servers for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.server_generations for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.secrets for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.observations for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.tools for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.agents for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.agent_tokens for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.connections for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.events for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy person_reads on public.calls for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));

-- Nobody writes in another's name: created_by, approved_by and actor are the asker's own.
-- People: change as a member (servers, agents and what hangs on them) or as an admin (toolboxes).
grant update (name) on public.workspaces to authenticated;
create policy admin_updates on public.workspaces for update to authenticated
  using (id in (select mooring.workspaces_as('admin'))) with check (id in (select mooring.workspaces_as('admin')));

grant update (name, revoked_at) on public.toolboxes to authenticated;
create policy admin_updates on public.toolboxes for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')))
  with check (workspace_id in (select mooring.workspaces_as('admin')));

grant insert, update (name, generation, running, removed_at) on public.servers to authenticated;
create policy member_inserts on public.servers for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')) and coalesce(created_by, auth.uid()) = auth.uid());
create policy member_updates on public.servers for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member')));

grant insert on public.server_generations to authenticated;
create policy member_inserts on public.server_generations for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')) and coalesce(created_by, auth.uid()) = auth.uid());

grant insert, update (key_id, iv, ciphertext), delete on public.secrets to authenticated;
create policy member_inserts on public.secrets for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')));
create policy member_updates on public.secrets for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member')));
create policy member_deletes on public.secrets for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')));

grant update (approved_definition, approved_hash, approved_by, approved_at) on public.tools to authenticated;
create policy member_updates on public.tools for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member')) and coalesce(approved_by, auth.uid()) = auth.uid());

grant insert, update (name), delete on public.agents to authenticated;
create policy member_inserts on public.agents for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')) and coalesce(created_by, auth.uid()) = auth.uid());
create policy member_updates on public.agents for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member')));
create policy member_deletes on public.agents for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')));

grant insert, update (revoked_at) on public.agent_tokens to authenticated;
create policy member_inserts on public.agent_tokens for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')));
-- A revoked token stays revoked.
create policy member_updates on public.agent_tokens for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member')) and revoked_at is not null);

grant insert, delete on public.connections to authenticated;
create policy member_inserts on public.connections for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')));
create policy member_deletes on public.connections for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')));

grant insert (workspace_id, server_id, layer, level, actor, message) on public.events to authenticated;
create policy member_inserts on public.events for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')) and actor = auth.uid());

-- A toolbox: its own row, and the servers placed on it.
grant select on public.toolboxes, public.servers, public.server_generations, public.secrets, public.observations,
  public.tools to mooring_toolbox;
grant update (facts, last_seen_at, report_epoch, report_sequence) on public.toolboxes to mooring_toolbox;
grant insert, update on public.observations to mooring_toolbox;
-- Never an approval.
grant insert (server_id, workspace_id, name, definition, hash), update (definition, hash, present, changed_at)
  on public.tools to mooring_toolbox;
grant delete on public.servers to mooring_toolbox;
grant insert (workspace_id, server_id, at, layer, level, message) on public.events to mooring_toolbox;

create policy toolbox_reads on public.toolboxes for select to mooring_toolbox using (id = mooring.toolbox_id());
create policy toolbox_updates on public.toolboxes for update to mooring_toolbox
  using (id = mooring.toolbox_id()) with check (id = mooring.toolbox_id());
create policy toolbox_reads on public.servers for select to mooring_toolbox
  using (toolbox_id = mooring.toolbox_id());
create policy toolbox_deletes on public.servers for delete to mooring_toolbox
  using (toolbox_id = mooring.toolbox_id() and removed_at is not null);
create policy toolbox_reads on public.server_generations for select to mooring_toolbox
  using (server_id in (select s.id from public.servers s));
create policy toolbox_reads on public.secrets for select to mooring_toolbox
  using (server_id in (select s.id from public.servers s));
create policy toolbox_writes on public.observations for all to mooring_toolbox
  using (server_id in (select s.id from public.servers s))
  with check (server_id in (select s.id from public.servers s));
create policy toolbox_writes on public.tools for all to mooring_toolbox
  using (server_id in (select s.id from public.servers s))
  with check (server_id in (select s.id from public.servers s));
create policy toolbox_inserts on public.events for insert to mooring_toolbox
  with check (workspace_id in (select s.workspace_id from public.servers s where s.id = server_id));

-- An agent: itself, and what it is connected to.
grant select on public.agents, public.connections, public.servers, public.tools, public.observations
  to mooring_agent;
grant select (id, workspace_id, name, is_local, public_key, revoked_at, facts, last_seen_at)
  on public.toolboxes to mooring_agent;
create policy agent_reads on public.agents for select to mooring_agent using (id = mooring.agent_id());
create policy agent_reads on public.connections for select to mooring_agent
  using (agent_id = mooring.agent_id());
create policy agent_reads on public.servers for select to mooring_agent
  using (id in (select c.server_id from public.connections c));
-- Never a definition that nobody approved.
create policy agent_reads on public.tools for select to mooring_agent
  using (present and hash = approved_hash and server_id in (select c.server_id from public.connections c));
create policy agent_reads on public.observations for select to mooring_agent
  using (server_id in (select c.server_id from public.connections c));
create policy agent_reads on public.toolboxes for select to mooring_agent
  using (id in (select s.toolbox_id from public.servers s));

-- ── What follows a change ───────────────────────────────────────────────────────────────────────

-- Each change of what a toolbox should run raises its version, in the same transaction.
create function mooring.raise_desired_version() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.toolboxes set desired_version = desired_version + 1
  where id = case when tg_op = 'DELETE' then old.toolbox_id else new.toolbox_id end;
  return null;
end $$;
create trigger raise_desired_version_on_insert after insert or delete on public.servers
  for each row execute function mooring.raise_desired_version();
create trigger raise_desired_version_on_update after update of generation, running, removed_at on public.servers
  for each row when (old is distinct from new) execute function mooring.raise_desired_version();

-- Wakes who waits. The payload only says where to look: the reader reads the table.
create function mooring.wake() returns trigger language plpgsql security definer set search_path = '' as $$
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
  elsif tg_table_name in ('observations', 'tools', 'events') then
    server := changed.server_id;
  else -- connections
    server := changed.server_id;
    agent := changed.agent_id;
  end if;
  perform pg_notify('mooring', json_build_object('table', tg_table_name, 'workspace', changed.workspace_id,
    'server', server, 'toolbox', toolbox, 'agent', agent)::text);
  return null;
end $$;
do $$
declare t text;
begin
  foreach t in array array['servers', 'observations', 'tools', 'events', 'agents', 'agent_tokens', 'connections'] loop
    execute format('create trigger wake after insert or update or delete on public.%I
      for each row execute function mooring.wake()', t);
  end loop;
end $$;
-- Not for every pull's last_seen_at: that would wake the toolbox's own long poll.
create trigger wake after insert or delete or update of name, revoked_at, facts, public_key, desired_version
  on public.toolboxes for each row execute function mooring.wake();

-- ── What the app may do as itself ───────────────────────────────────────────────────────────────

-- Which agent a bearer token belongs to; no row when unknown, revoked or expired.
create function mooring.agent_of_token(hash text)
returns table (token_id uuid, agent_id uuid, workspace_id uuid, expires_at timestamptz)
language sql stable security definer set search_path = '' as $$
  select t.id, t.agent_id, t.workspace_id, t.expires_at from public.agent_tokens t
  where t.token_hash = hash and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
$$;

-- Minute-wise, so that a busy agent costs one write a minute and wakes nobody more often.
create function mooring.token_was_used(token uuid) returns void
language sql security definer set search_path = '' as $$
  update public.agent_tokens set last_used_at = now()
  where id = token and (last_used_at is null or last_used_at < now() - interval '1 minute')
$$;

-- The key a toolbox signs with; no row when it is unknown or revoked.
create function mooring.key_of_toolbox(toolbox uuid) returns table (public_key text, workspace_id uuid)
language sql stable security definer set search_path = '' as $$
  select t.public_key, t.workspace_id from public.toolboxes t
  where t.id = toolbox and t.revoked_at is null and t.public_key is not null
$$;

-- Spends an enrolment token: gives the toolbox its key, once. No row when it is unknown or too old.
create function mooring.enrol_toolbox(hash text, key text, host_facts jsonb) returns setof uuid
language sql security definer set search_path = '' as $$
  update public.toolboxes
  set public_key = key, facts = host_facts, last_seen_at = now(), enrolment_hash = null,
    enrolment_expires_at = null, report_epoch = null, report_sequence = null
  where enrolment_hash = hash and enrolment_expires_at > now() and revoked_at is null
  returning id
$$;

-- True the first time a nonce is seen; forgets those too old to be accepted anyway.
create function mooring.first_use_of_nonce(key text, value text) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  delete from mooring.nonces where seen_at < now() - interval '5 minutes';
  insert into mooring.nonces (key_id, nonce) values (key, value) on conflict do nothing;
  return found;
end $$;

-- Whether any toolbox was heard of within two long polls.
create function mooring.toolbox_seen() returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from public.toolboxes where last_seen_at > now() - interval '75 seconds')
$$;

-- Records calls, many at once.
create function mooring.record_calls(batch jsonb) returns void
language sql security definer set search_path = '' as $$
  insert into public.calls (id, workspace_id, agent_id, server_id, server_slug, tool, via, started_at, duration_ms,
    outcome, error, request_bytes, response_bytes)
  select c.id, c.workspace_id, a.id, s.id, c.server_slug, c.tool, c.via, c.started_at, c.duration_ms,
    c.outcome, c.error, c.request_bytes, c.response_bytes
  from jsonb_to_recordset(batch) as c (id uuid, workspace_id uuid, agent_id uuid, server_id uuid, server_slug text,
    tool text, via text, started_at timestamptz, duration_ms double precision, outcome text, error text,
    request_bytes integer, response_bytes integer)
  join public.workspaces w on w.id = c.workspace_id
  -- What was removed since is recorded without its link, not lost.
  left join public.agents a on a.id = c.agent_id
  left join public.servers s on s.id = c.server_id
  on conflict (id) do nothing;
  -- One wake-up an agent and server, not one a call.
  select pg_notify('mooring', json_build_object('table', 'calls', 'workspace', c.workspace_id,
    'server', c.server_id, 'toolbox', null, 'agent', c.agent_id)::text)
  from jsonb_to_recordset(batch) as c (workspace_id uuid, server_id uuid, agent_id uuid)
  group by c.workspace_id, c.server_id, c.agent_id;
$$;

-- Makes the built-in catalog equal to the given entries.
create function mooring.put_builtin_catalog(entries jsonb) returns void
language sql security definer set search_path = '' as $$
  delete from public.catalog_entries
  where workspace_id is null and source = 'builtin'
    and slug not in (select e ->> 'slug' from jsonb_array_elements(entries) e);
  insert into public.catalog_entries (id, workspace_id, source, slug, entry)
  select gen_random_uuid(), null, 'builtin', e ->> 'slug', e from jsonb_array_elements(entries) e
  on conflict (workspace_id, source, slug) do update set entry = excluded.entry, updated_at = now()
    where public.catalog_entries.entry is distinct from excluded.entry;
$$;

-- The workspace and toolbox of this machine, made once at the first start. The toolbox gets a new
-- enrolment token each time one is asked for, which takes the place of its old key.
create function mooring.put_local_toolbox(workspace uuid, toolbox uuid, hash text)
returns table (workspace_id uuid, toolbox_id uuid)
language plpgsql security definer set search_path = '' as $$
declare found_toolbox uuid; found_workspace uuid;
begin
  perform pg_advisory_xact_lock(7001);
  select t.id, t.workspace_id into found_toolbox, found_workspace
  from public.toolboxes t where t.is_local order by t.created_at limit 1;
  if found_toolbox is null then
    insert into public.workspaces (id, name) values (workspace, 'My workspace');
    insert into public.toolboxes (id, workspace_id, name, is_local)
    values (toolbox, workspace, 'This machine', true);
    found_toolbox := toolbox; found_workspace := workspace;
  end if;
  if hash is not null then
    update public.toolboxes set enrolment_hash = hash, enrolment_expires_at = now() + interval '15 minutes'
    where id = found_toolbox;
  end if;
  return query select found_workspace, found_toolbox;
end $$;

-- Keeps a person's name and address beside their account; the first person of all becomes the owner
-- of the workspace that has no members. Idempotent.
create function mooring.put_profile(person uuid, address text, full_name text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform pg_advisory_xact_lock(7001);
  insert into public.profiles (user_id, email, name) values (person, address, full_name)
  on conflict (user_id) do update set email = excluded.email, name = excluded.name;
  if not exists (select from public.members) then
    insert into public.members (workspace_id, user_id, role)
    select w.id, person, 'owner' from public.workspaces w order by w.created_at limit 1;
  end if;
end $$;

do $$
declare f regprocedure;
begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'mooring'::regnamespace loop
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
grant execute on function mooring.claim, mooring.agent_id, mooring.toolbox_id, mooring.workspaces_as
  to authenticated, mooring_agent, mooring_toolbox, mooring_app;
grant execute on function mooring.agent_of_token, mooring.token_was_used, mooring.key_of_toolbox,
  mooring.enrol_toolbox, mooring.first_use_of_nonce, mooring.record_calls, mooring.put_builtin_catalog,
  mooring.put_local_toolbox, mooring.put_profile, mooring.toolbox_seen to mooring_app;
