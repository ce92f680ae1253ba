-- That Mooring may act at a remote server for the person who signed in there (OAuth 2.1).

create table public.authorizations (
  server_id uuid primary key,
  workspace_id uuid not null,
  -- waiting: for the first sign-in, before which the server is not run.
  -- signed_out: there was one, and a person has to sign in again.
  state text not null check (state in ('waiting', 'signed_in', 'signed_out')),
  -- For a person: why it is signed out, or could not be renewed just now.
  trouble text check (length(trouble) <= 1000),
  -- Who signs people in, and what was asked for.
  issuer text check (length(issuer) <= 2000),
  scope text not null default '' check (length(scope) <= 2000),
  -- What the server asked for beyond that, when it refused a call.
  wanted_scope text check (length(wanted_scope) <= 2000),
  -- Grant of models/oauth.ts, sealed as the rows of public.secrets are, for the server's id.
  key_id text,
  iv bytea,
  ciphertext bytea,
  -- Each grant has another, so that a renewal never replaces a newer sign-in.
  version bigint not null default 0,
  renewed_at timestamptz,
  -- When the access token is to be renewed; null: not before the server refuses it.
  renew_at timestamptz,
  -- One replica renews: until then, and is taken for dead after.
  renewing_until timestamptz,
  signed_in_by uuid,
  signed_in_at timestamptz,
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade,
  check (state <> 'signed_in' or ciphertext is not null)
);

revoke all on public.authorizations from public, anon, authenticated;
alter table public.authorizations enable row level security;
alter table public.authorizations force row level security;

-- Never a ciphertext.
grant select (server_id, workspace_id, state, trouble, issuer, scope, wanted_scope, version, renewed_at, renew_at,
  signed_in_by, signed_in_at) on public.authorizations to authenticated;
grant insert, update, delete on public.authorizations to authenticated;
create policy person_reads on public.authorizations for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy member_inserts on public.authorizations for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member'))
    and coalesce(signed_in_by, auth.uid()) = auth.uid());
create policy member_updates on public.authorizations for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member'))
    and coalesce(signed_in_by, auth.uid()) = auth.uid());
create policy member_deletes on public.authorizations for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')));

-- The app renews it in the toolbox's name, whose server it is.
grant select, update (state, trouble, wanted_scope, key_id, iv, ciphertext, version, renewed_at, renew_at,
  renewing_until) on public.authorizations to mooring_toolbox;
create policy toolbox_reads on public.authorizations for select to mooring_toolbox
  using (server_id in (select s.id from public.servers s));
create policy toolbox_updates on public.authorizations for update to mooring_toolbox
  using (server_id in (select s.id from public.servers s))
  with check (server_id in (select s.id from public.servers s));

-- An agent: that there is one, so that it can be told why a call is not made.
grant select (server_id, workspace_id, state) on public.authorizations to mooring_agent;
create policy agent_reads on public.authorizations for select to mooring_agent
  using (server_id in (select c.server_id from public.connections c));

-- A toolbox gets the access token with what it should run.
create function mooring.raise_desired_version_of_server() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.toolboxes t set desired_version = desired_version + 1
  from public.servers s
  where s.id = case when tg_op = 'DELETE' then old.server_id else new.server_id end and t.id = s.toolbox_id;
  return null;
end $$;
revoke all on function mooring.raise_desired_version_of_server from public;
create trigger raise_desired_version after insert or delete or update of state, version on public.authorizations
  for each row execute function mooring.raise_desired_version_of_server();
create trigger wake after insert or delete or update of state, version, trouble, wanted_scope
  on public.authorizations for each row execute function mooring.wake();

-- Sign-ins that are under way, for ten minutes.
create table mooring.authorization_requests (
  -- SHA-256 of the state that has to come back.
  state_hash text primary key,
  -- SHA-256 of what the browser that began it holds in a cookie.
  browser_hash text not null,
  user_id uuid not null,
  server_id uuid not null references public.servers (id) on delete cascade,
  -- Attempt of models/oauth.ts, sealed for the state's hash.
  key_id text not null,
  iv bytea not null,
  ciphertext bytea not null,
  expires_at timestamptz not null default now() + interval '10 minutes'
);
alter table mooring.authorization_requests enable row level security;
alter table mooring.authorization_requests force row level security;

create function mooring.put_authorization_request(state text, browser text, person uuid, server uuid, key text,
  nonce bytea, sealed bytea) returns void
language sql security definer set search_path = '' as $$
  delete from mooring.authorization_requests where expires_at < now();
  insert into mooring.authorization_requests (state_hash, browser_hash, user_id, server_id, key_id, iv, ciphertext)
  values (state, browser, person, server, key, nonce, sealed);
$$;

-- Once, and for the person and the browser alone that began it: others spend nothing.
create function mooring.take_authorization_request(state text, browser text, person uuid)
returns table (server_id uuid, key_id text, iv bytea, ciphertext bytea)
language sql security definer set search_path = '' as $$
  delete from mooring.authorization_requests r
  where r.state_hash = state and r.browser_hash = browser and r.user_id = person and r.expires_at > now()
  returning r.server_id, r.key_id, r.iv, r.ciphertext
$$;
revoke all on function mooring.put_authorization_request, mooring.take_authorization_request from public;
grant execute on function mooring.put_authorization_request, mooring.take_authorization_request to mooring_app;
