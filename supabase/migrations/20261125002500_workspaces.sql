-- Workspaces as people run them: roles, invitations, transfer, leaving, deletion. Nobody writes members
-- by themselves: each change is one of the functions below, which takes the workspace's lock before it
-- looks at who asks, so that of two owners who demote each other the second is asked as what the first
-- made of them. README's "Security model" has the table of who may do what.

alter table public.events drop constraint events_layer_check;
alter table public.events add constraint events_layer_check
  check (layer in ('request', 'image', 'container', 'handshake', 'tools', 'toolbox', 'workspace'));
-- What is said of a workspace itself is said by these functions alone: it is what owners look at to see
-- who let whom in.
drop policy member_inserts on public.events;
create policy member_inserts on public.events for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')) and actor = auth.uid()
    and layer <> 'workspace');
create index on public.events (workspace_id, id desc) where layer = 'workspace';

-- ── Who asks ────────────────────────────────────────────────────────────────────────────────────

create function mooring.rank(role text) returns integer language sql immutable as $$
  select array_position(array['viewer', 'member', 'admin', 'owner'], role)
$$;

-- The person who is signed in. What a program does with a token of theirs is not theirs to do here.
create function mooring.person() returns uuid language plpgsql stable set search_path = '' as $$
begin
  if auth.uid() is null or mooring.claim('mooring_workspace') is not null then
    raise exception 'Only a person who is signed in may do this' using errcode = '42501';
  end if;
  return auth.uid();
end $$;

-- Takes the workspace's lock, and then says what the asker is in it: the order is the point. A workspace
-- that they are not in does not exist for them.
create function mooring.locked_role(workspace uuid, minimum text) returns text
language plpgsql set search_path = '' as $$
declare mine text;
begin
  perform from public.workspaces w where w.id = workspace for no key update;
  select m.role into mine from public.members m
  where m.workspace_id = workspace and m.user_id = mooring.person();
  if mine is null then raise exception 'There is no such workspace' using errcode = 'P0002'; end if;
  if mooring.rank(mine) < mooring.rank(minimum) then
    raise exception 'This takes a higher role' using errcode = '42501';
  end if;
  return mine;
end $$;

create function mooring.address_of(person uuid) returns text language sql stable set search_path = '' as $$
  select coalesce((select p.email from public.profiles p where p.user_id = person), person::text)
$$;

create function mooring.say_in_workspace(workspace uuid, said text) returns void
language sql set search_path = '' as $$
  insert into public.events (workspace_id, layer, actor, message)
  values (workspace, 'workspace', auth.uid(), said)
$$;

-- ── An owner is always left ─────────────────────────────────────────────────────────────────────

-- Whatever the way a member goes or is made less, the removal of their account too.
create function mooring.keep_an_owner() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if old.role = 'owner' and (tg_op = 'DELETE' or new.role <> 'owner') then
    -- A workspace that is deleted is gone by now, and its members go with it.
    perform from public.workspaces w where w.id = old.workspace_id for no key update;
    if found and not exists (select from public.members m
      where m.workspace_id = old.workspace_id and m.role = 'owner' and m.user_id <> old.user_id) then
      raise exception 'A workspace needs an owner' using errcode = 'MLAST';
    end if;
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger keep_an_owner before update or delete on public.members
  for each row execute function mooring.keep_an_owner();

-- ── The workspace itself ────────────────────────────────────────────────────────────────────────

-- Anybody with an account makes one, which they own: it shares nothing with any other.
create function mooring.create_workspace(workspace uuid, named text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  -- More than a person has use for; it keeps one of them from filling the database with rows.
  if (select count(*) from public.members m where m.user_id = mooring.person() and m.role = 'owner') >= 50 then
    raise exception 'Nobody owns more than 50 workspaces' using errcode = 'MMANY';
  end if;
  insert into public.workspaces (id, name) values (workspace, named);
  insert into public.members (workspace_id, user_id, role) values (workspace, mooring.person(), 'owner');
  perform mooring.say_in_workspace(workspace, 'Made the workspace ' || named);
end $$;

create function mooring.after_workspace_renamed() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform mooring.say_in_workspace(new.id, 'Renamed the workspace from ' || old.name || ' to ' || new.name);
  return null;
end $$;
create trigger after_workspace_renamed after update of name on public.workspaces
  for each row when (old.name is distinct from new.name) execute function mooring.after_workspace_renamed();

-- Deletes a workspace with all that hangs on it. Not while servers or toolboxes are left: a row that is
-- gone cannot tell a Docker host to end what it runs. False: there are some.
create function mooring.delete_workspace(workspace uuid) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  perform mooring.locked_role(workspace, 'owner');
  -- Waits for whoever is adding a toolbox or a server right now, so that the next statement sees it.
  perform from public.workspaces w where w.id = workspace for update;
  if exists (select from public.servers s where s.workspace_id = workspace)
    or exists (select from public.toolboxes t where t.workspace_id = workspace) then
    return false;
  end if;
  delete from public.workspaces w where w.id = workspace;
  return true;
end $$;

-- ── Members ─────────────────────────────────────────────────────────────────────────────────────

-- Nobody changes one who is more than themselves, or makes anybody more than themselves.
create function mooring.set_role(workspace uuid, person uuid, new_role text) returns void
language plpgsql security definer set search_path = '' as $$
declare mine text := mooring.locked_role(workspace, 'admin'); theirs text;
begin
  select m.role into theirs from public.members m where m.workspace_id = workspace and m.user_id = person;
  if theirs is null then raise exception 'There is no such member' using errcode = 'P0002'; end if;
  if greatest(mooring.rank(theirs), mooring.rank(new_role)) > mooring.rank(mine) then
    raise exception 'This takes a higher role' using errcode = '42501';
  end if;
  if theirs = new_role then return; end if;
  update public.members m set role = new_role where m.workspace_id = workspace and m.user_id = person;
  perform mooring.say_in_workspace(workspace,
    'Made ' || mooring.address_of(person) || ' ' || new_role || ', from ' || theirs);
end $$;

-- Takes a member out; anybody may leave.
create function mooring.remove_member(workspace uuid, person uuid) returns void
language plpgsql security definer set search_path = '' as $$
declare
  mine text := mooring.locked_role(workspace, 'viewer');
  theirs text;
begin
  select m.role into theirs from public.members m where m.workspace_id = workspace and m.user_id = person;
  if theirs is null then raise exception 'There is no such member' using errcode = 'P0002'; end if;
  if person <> mooring.person() and (mooring.rank(mine) < mooring.rank('admin')
    or mooring.rank(theirs) > mooring.rank(mine)) then
    raise exception 'This takes a higher role' using errcode = '42501';
  end if;
  delete from public.members m where m.workspace_id = workspace and m.user_id = person;
  perform mooring.say_in_workspace(workspace, case when person = mooring.person() then 'Left, as ' || theirs
    else 'Removed ' || mooring.address_of(person) || ', who was ' || theirs end);
end $$;

-- Makes another member the owner, and the asker an admin.
create function mooring.transfer_workspace(workspace uuid, person uuid) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform mooring.locked_role(workspace, 'owner');
  if person = mooring.person() then return; end if;
  update public.members m set role = 'owner' where m.workspace_id = workspace and m.user_id = person;
  if not found then raise exception 'There is no such member' using errcode = 'P0002'; end if;
  update public.members m set role = 'admin' where m.workspace_id = workspace and m.user_id = mooring.person();
  perform mooring.say_in_workspace(workspace,
    'Gave the workspace to ' || mooring.address_of(person) || ' and became admin');
end $$;

-- ── Invitations ─────────────────────────────────────────────────────────────────────────────────

create table public.invitations (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  -- Never owner: that is given to one who is in, whom one sees.
  role text not null check (role in ('admin', 'member', 'viewer')),
  -- SHA-256 of a 256-bit random token; the link with it is shown once and not kept.
  token_hash text not null unique,
  created_by uuid not null references auth.users (id) on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null check (expires_at <= created_at + interval '30 days'),
  revoked_at timestamptz,
  accepted_at timestamptz,
  accepted_by uuid references auth.users (id) on delete set null,
  -- While somebody signs up with it: two at once would make two accounts of one invitation.
  held_by uuid,
  held_until timestamptz
);
create index on public.invitations (workspace_id, created_at desc);
create index on public.invitations (created_by);

revoke all on public.invitations from public, anon, authenticated;
alter table public.invitations enable row level security;
alter table public.invitations force row level security;
grant select (id, workspace_id, role, created_by, created_at, expires_at, revoked_at, accepted_at, accepted_by)
  on public.invitations to authenticated;
create policy admin_reads on public.invitations for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')));

create function mooring.invite(workspace uuid, invitation uuid, as_role text, hash text, valid interval)
returns void language plpgsql security definer set search_path = '' as $$
begin
  perform mooring.locked_role(workspace, 'admin');
  delete from public.invitations i
  where i.workspace_id = workspace and i.expires_at < now() - interval '30 days';
  if (select count(*) from public.invitations i where i.workspace_id = workspace) >= 500 then
    raise exception 'Too many invitations' using errcode = 'MMANY';
  end if;
  insert into public.invitations (id, workspace_id, role, token_hash, created_by, expires_at)
  values (invitation, workspace, as_role, hash, mooring.person(), now() + valid);
  perform mooring.say_in_workspace(workspace, 'Made an invitation for a new ' || as_role);
end $$;

create function mooring.revoke_invitation(invitation uuid) returns void
language plpgsql security definer set search_path = '' as $$
declare of_workspace uuid; for_role text;
begin
  select i.workspace_id into of_workspace from public.invitations i where i.id = invitation;
  perform mooring.locked_role(of_workspace, 'admin');
  update public.invitations i set revoked_at = now()
  where i.id = invitation and i.revoked_at is null and i.accepted_at is null
  returning i.role into for_role;
  if found then
    perform mooring.say_in_workspace(of_workspace, 'Revoked an invitation for a new ' || for_role);
  end if;
end $$;

-- An invitation that still opens its workspace: of one who made it and has gone since, or is less than
-- what it gives, it does not.
create function mooring.open_invitation(hash text, hold uuid) returns setof public.invitations
language sql stable set search_path = '' as $$
  select i.* from public.invitations i
  join public.members m on m.workspace_id = i.workspace_id and m.user_id = i.created_by
  where i.token_hash = hash and i.accepted_at is null and i.revoked_at is null and i.expires_at > now()
    and mooring.rank(m.role) >= mooring.rank('admin')
    and (i.held_until is null or i.held_until < now() or i.held_by = hold)
$$;

-- What the link says to whoever has it, signed in or not.
create function mooring.invitation_of(hash text)
returns table (workspace_id uuid, workspace_name text, role text, invited_by text, expires_at timestamptz)
language sql stable security definer set search_path = '' as $$
  select w.id, w.name, i.role, mooring.address_of(i.created_by), i.expires_at
  from mooring.open_invitation(hash, null) i join public.workspaces w on w.id = i.workspace_id
$$;

-- Keeps an invitation for one who signs up, for a minute; null when another has it or it is not open.
create function mooring.hold_invitation(hash text) returns uuid
language plpgsql security definer set search_path = '' as $$
declare hold uuid := gen_random_uuid();
begin
  perform from public.invitations i where i.token_hash = hash for update;
  update public.invitations i set held_by = hold, held_until = now() + interval '1 minute'
  where i.id in (select o.id from mooring.open_invitation(hash, null) o);
  return case when found then hold end;
end $$;

create function mooring.release_invitation(hash text, hold uuid) returns void
language sql security definer set search_path = '' as $$
  update public.invitations i set held_by = null, held_until = null where i.token_hash = hash and i.held_by = hold
$$;

-- Spends an invitation: the asker is a member from now on. Null: it is not open. One who is a member
-- already stays what they are, and the invitation stays open for whom it was meant.
create function mooring.accept_invitation(hash text, hold uuid) returns uuid
language plpgsql security definer set search_path = '' as $$
declare of_workspace uuid; invitation public.invitations;
begin
  select i.workspace_id into of_workspace from public.invitations i where i.token_hash = hash;
  perform from public.workspaces w where w.id = of_workspace for no key update;
  select * into invitation from mooring.open_invitation(hash, hold);
  if not found then return null; end if;
  insert into public.members (workspace_id, user_id, role)
  values (of_workspace, mooring.person(), invitation.role) on conflict do nothing;
  if found then
    update public.invitations i set accepted_at = now(), accepted_by = mooring.person(), held_by = null,
      held_until = null
    where i.id = invitation.id;
    perform mooring.say_in_workspace(of_workspace,
      'Came in as ' || invitation.role || ', invited by ' || mooring.address_of(invitation.created_by));
  end if;
  return of_workspace;
end $$;

revoke all on function mooring.rank, mooring.person, mooring.locked_role, mooring.address_of,
  mooring.say_in_workspace, mooring.keep_an_owner, mooring.create_workspace, mooring.after_workspace_renamed,
  mooring.delete_workspace, mooring.set_role, mooring.remove_member, mooring.transfer_workspace, mooring.invite,
  mooring.revoke_invitation, mooring.open_invitation, mooring.invitation_of, mooring.hold_invitation,
  mooring.release_invitation, mooring.accept_invitation from public;
grant execute on function mooring.create_workspace, mooring.delete_workspace, mooring.set_role,
  mooring.remove_member, mooring.transfer_workspace, mooring.invite, mooring.revoke_invitation,
  mooring.accept_invitation to authenticated;
grant execute on function mooring.invitation_of, mooring.hold_invitation, mooring.release_invitation
  to mooring_app;
