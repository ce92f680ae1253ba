-- What was said in calls, where a workspace's owner wants it kept: masked and cut by the app, which seals it
-- as it does secrets. Off by default; what is kept goes with its call, with its own time, and at once when
-- it is turned off.

alter table public.workspaces
  add column keeps_bodies boolean not null default false,
  add column bodies_kept_days integer not null default 7 check (bodies_kept_days in (1, 7, 30));

create table public.call_bodies (
  call_id uuid primary key references public.calls (id) on delete cascade,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  at timestamptz not null,
  key_id text not null,
  iv bytea not null,
  ciphertext bytea not null check (octet_length(ciphertext) <= 512 * 1024)
);
create index on public.call_bodies (workspace_id, at);
revoke all on public.call_bodies from public, anon, authenticated;
alter table public.call_bodies enable row level security;
alter table public.call_bodies force row level security;
grant select on public.call_bodies to authenticated;
create policy admin_reads on public.call_bodies for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')));

-- Turns it on, or off with all that is kept: an owner's to decide, since it is everybody's words.
create function mooring.keep_bodies(workspace uuid, is_on boolean, days integer) returns void
language plpgsql security definer set search_path = '' as $$
declare before public.workspaces;
begin
  select * into before from public.workspaces w where w.id = workspace for no key update;
  if workspace not in (select mooring.workspaces_as('viewer')) or before.id is null then
    raise exception 'There is no such workspace' using errcode = 'P0002';
  end if;
  if workspace not in (select mooring.workspaces_as('owner')) then
    raise exception 'This takes a higher role' using errcode = '42501';
  end if;
  update public.workspaces w set keeps_bodies = is_on, bodies_kept_days = days where w.id = workspace;
  if not is_on then delete from public.call_bodies b where b.workspace_id = workspace; end if;
  update mooring.upkeep set due_at = now();
  if (before.keeps_bodies, before.bodies_kept_days) is distinct from (is_on, days) then
    perform mooring.say_in_workspace(workspace, case
      when is_on then 'What is said in calls is kept, for ' || days || case days when 1 then ' day' else ' days' end
      else 'What is said in calls is not kept any more, and what was is deleted' end);
  end if;
end $$;

-- Which of these workspaces keep what is said.
create function mooring.workspaces_with_bodies(asked uuid[]) returns setof uuid
language sql stable security definer set search_path = '' as $$
  select w.id from public.workspaces w where w.id = any (asked) and w.keeps_bodies
$$;

-- All that is sealed for a workspace, so that the app can take it out of what is kept. Nothing of one that
-- keeps nothing.
create function mooring.secrets_to_mask(workspace uuid)
returns table (id uuid, key_id text, iv bytea, ciphertext bytea)
language sql stable security definer set search_path = '' as $$
  select s.id, s.key_id, s.iv, s.ciphertext from (
    select id, workspace_id, key_id, iv, ciphertext from public.secrets
    union all select id, workspace_id, key_id, iv, ciphertext from public.connection_secrets
    union all select server_id, workspace_id, key_id, iv, ciphertext from public.authorizations
      where ciphertext is not null) s
  join public.workspaces w on w.id = s.workspace_id and w.keeps_bodies
  where s.workspace_id = workspace
$$;

-- Keeps bodies of calls that are recorded, of workspaces that want them now.
create function mooring.record_bodies(batch jsonb) returns void
language sql security definer set search_path = '' as $$
  insert into public.call_bodies (call_id, workspace_id, at, key_id, iv, ciphertext)
  select c.id, c.workspace_id, c.started_at, b.key_id, decode(b.iv, 'base64'), decode(b.ciphertext, 'base64')
  from jsonb_to_recordset(batch) as b (call_id uuid, key_id text, iv text, ciphertext text)
  join public.calls c on c.id = b.call_id
  join public.workspaces w on w.id = c.workspace_id and w.keeps_bodies
  on conflict (call_id) do nothing
$$;

revoke all on function mooring.keep_bodies, mooring.workspaces_with_bodies, mooring.secrets_to_mask,
  mooring.record_bodies from public;
grant execute on function mooring.keep_bodies to authenticated;
grant execute on function mooring.workspaces_with_bodies, mooring.secrets_to_mask, mooring.record_bodies
  to mooring_app;
