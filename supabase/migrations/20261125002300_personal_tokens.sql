-- Personal access tokens: with one, a program acts as its person, in one workspace, as far as its
-- scopes go.

create table public.personal_tokens (
  id uuid primary key,
  workspace_id uuid not null,
  user_id uuid not null,
  name text not null check (length(name) between 1 and 80),
  -- SHA-256 of a 256-bit random token; the token itself is shown once and not kept.
  token_hash text not null unique,
  scopes text[] not null check (cardinality(scopes) between 1 and 20),
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  -- Who is no member any more has no token there.
  foreign key (workspace_id, user_id) references public.members (workspace_id, user_id) on delete cascade
);
create index on public.personal_tokens (user_id, workspace_id);

-- What is done with a token is done in its workspace alone, whatever else its person belongs to: the
-- claim, which the app sets, narrows every policy that asks for a workspace.
create or replace function mooring.workspaces_as(minimum text) returns setof uuid
language sql stable security definer set search_path = '' as $$
  select workspace_id from public.members
  where user_id = auth.uid()
    and workspace_id = coalesce(mooring.claim('mooring_workspace')::uuid, workspace_id)
    and array_position(array['viewer', 'member', 'admin', 'owner'], role)
      >= array_position(array['viewer', 'member', 'admin', 'owner'], minimum)
$$;

revoke all on public.personal_tokens from public, anon, authenticated;
alter table public.personal_tokens enable row level security;
alter table public.personal_tokens force row level security;
-- Never the hash. A token is its person's own: an owner of the workspace does not see it either.
grant select (id, workspace_id, user_id, name, scopes, created_at, expires_at, revoked_at, last_used_at),
  insert (id, workspace_id, user_id, name, token_hash, scopes, expires_at), update (revoked_at)
  on public.personal_tokens to authenticated;
create policy person_reads on public.personal_tokens for select to authenticated
  using (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('viewer')));
-- Not with a token: one that may little could make itself one that may more.
create policy person_inserts on public.personal_tokens for insert to authenticated
  with check (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('viewer'))
    and mooring.claim('mooring_workspace') is null);
-- A revoked token stays revoked.
create policy person_updates on public.personal_tokens for update to authenticated
  using (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('viewer')))
  with check (user_id = auth.uid() and revoked_at is not null);

-- Whose a personal token is, and what they are in its workspace; no row when it is unknown, revoked or
-- expired.
create function mooring.person_of_token(hash text)
returns table (token_id uuid, user_id uuid, email text, name text, workspace_id uuid, workspace_name text,
  role text, scopes text[], expires_at timestamptz)
language sql stable security definer set search_path = '' as $$
  select t.id, t.user_id, p.email, p.name, w.id, w.name, m.role, t.scopes, t.expires_at
  from public.personal_tokens t
  join public.members m on m.workspace_id = t.workspace_id and m.user_id = t.user_id
  join public.workspaces w on w.id = t.workspace_id
  join public.profiles p on p.user_id = t.user_id
  where t.token_hash = hash and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
$$;

-- Minute-wise, as an agent's.
create function mooring.personal_token_was_used(token uuid) returns void
language sql security definer set search_path = '' as $$
  update public.personal_tokens set last_used_at = now()
  where id = token and (last_used_at is null or last_used_at < now() - interval '1 minute')
$$;

revoke all on function mooring.person_of_token, mooring.personal_token_was_used from public;
grant execute on function mooring.person_of_token, mooring.personal_token_was_used to mooring_app;
