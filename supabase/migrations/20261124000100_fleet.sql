-- Toolboxes as a fleet: people add, label, drain, revoke and remove them; one DTMA a key, and keys
-- that are changed.

alter table public.toolboxes
  -- What people say of it, each a short text by a short key.
  add column labels jsonb not null default '{}'
    check (jsonb_typeof(labels) = 'object' and length(labels::text) <= 8000),
  -- No new server is placed there from then on.
  add column drained_at timestamptz,
  -- A person asked for another key; null again once the toolbox has one.
  add column rotation_asked_at timestamptz,
  -- Of the DTMA that was last told that another one with this key started later.
  add column refused_epoch uuid;

-- No foreign key: the history outlives the toolbox.
alter table public.events add column toolbox_id uuid;
create index on public.events (toolbox_id, id desc) where toolbox_id is not null;
grant insert (toolbox_id) on public.events to authenticated;

grant select (labels, drained_at, rotation_asked_at) on public.toolboxes to authenticated;
grant update (labels, drained_at, rotation_asked_at, enrolment_hash, enrolment_expires_at)
  on public.toolboxes to authenticated;
grant insert (id, workspace_id, name, enrolment_hash, enrolment_expires_at) on public.toolboxes
  to authenticated;
grant delete on public.toolboxes to authenticated;

-- A token lives 15 minutes at most, whoever writes it; this machine's toolbox, which enrols by
-- itself, is not revoked.
create policy admin_inserts on public.toolboxes for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('admin'))
    and (enrolment_hash is null or enrolment_expires_at <= now() + interval '15 minutes'));
drop policy admin_updates on public.toolboxes;
create policy admin_updates on public.toolboxes for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')))
  with check (workspace_id in (select mooring.workspaces_as('admin'))
    and (enrolment_hash is null or enrolment_expires_at <= now() + interval '15 minutes')
    and not (is_local and revoked_at is not null));
create policy admin_deletes on public.toolboxes for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')) and not is_local
    and revoked_at is not null);

-- With a toolbox that is removed go its servers, whose end nobody would report.
alter table public.servers drop constraint servers_toolbox_id_workspace_id_fkey;
alter table public.servers add foreign key (toolbox_id, workspace_id)
  references public.toolboxes (id, workspace_id) on delete cascade;

-- A key that was given up stays so, and the toolbox hears at once that it should make another.
create function mooring.before_toolbox_update() returns trigger language plpgsql set search_path = '' as $$
begin
  -- Calls to this machine's toolbox go to the loopback address it names: nobody enrols another as it.
  if old.is_local and current_user = 'authenticated' and new.enrolment_hash is distinct from old.enrolment_hash then
    raise exception 'This machine''s toolbox enrols by itself' using errcode = '42501';
  end if;
  if old.revoked_at is not null then new.revoked_at := old.revoked_at; end if;
  if new.rotation_asked_at is not null and old.rotation_asked_at is null then
    new.desired_version := old.desired_version + 1;
  end if;
  return new;
end $$;
create trigger before_toolbox_update before update of revoked_at, rotation_asked_at, enrolment_hash
  on public.toolboxes
  for each row execute function mooring.before_toolbox_update();

drop trigger wake on public.toolboxes;
-- Not for every pull's last_seen_at: that would wake the toolbox's own long poll.
create trigger wake after insert or delete or update of name, revoked_at, facts, public_key, desired_version,
  labels, drained_at, rotation_asked_at, enrolment_hash on public.toolboxes
  for each row execute function mooring.wake();
-- Every report names this column; that another DTMA took over is what the first one's poll waits for.
create trigger wake_on_another_dtma after update of report_epoch on public.toolboxes
  for each row when (old.report_epoch is distinct from new.report_epoch) execute function mooring.wake();

-- Of two DTMAs with one key the one that started later is the toolbox. Its epoch is noted at its first
-- pull; the other's is refused from then on, with one event. True: this is the one.
create function mooring.note_epoch(toolbox uuid, epoch uuid) returns boolean
language plpgsql security definer set search_path = '' as $$
declare of_toolbox public.toolboxes;
begin
  -- Asked at every look of every poll: without a lock while nothing is new.
  select t.* into of_toolbox from public.toolboxes t where t.id = toolbox;
  if not found or of_toolbox.report_epoch = epoch then return true; end if;
  update public.toolboxes t set report_epoch = epoch, report_sequence = -1
  where t.id = toolbox and (t.report_epoch is null or t.report_epoch < epoch);
  if found then return true; end if;
  update public.toolboxes t set refused_epoch = epoch
  where t.id = toolbox and t.refused_epoch is distinct from epoch and t.report_epoch > epoch;
  if found then
    insert into public.events (workspace_id, toolbox_id, layer, level, message)
    values (of_toolbox.workspace_id, toolbox, 'toolbox', 'error',
      'Two DTMAs ran with this toolbox''s key, as after a copy of its data directory: the one that started '
      'later goes on, the other was told to stop. Revoke this toolbox if you did not start it');
  end if;
  -- Of two looks of one DTMA the second waits for the first, and finds its own epoch there.
  return exists (select from public.toolboxes t where t.id = toolbox and t.report_epoch = epoch);
end $$;

-- Changes the key a toolbox signs with, if it still is the old one.
create function mooring.rotate_toolbox_key(toolbox uuid, old_key text, new_key text) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  update public.toolboxes t set public_key = new_key, rotation_asked_at = null
  where t.id = toolbox and t.public_key = old_key and t.revoked_at is null;
  if not found then return false; end if;
  insert into public.events (workspace_id, toolbox_id, layer, message)
  select t.workspace_id, t.id, 'toolbox', 'Changed its key' from public.toolboxes t where t.id = toolbox;
  return true;
end $$;

-- Said of a toolbox at its enrolment.
create or replace function mooring.enrol_toolbox(hash text, key text, host_facts jsonb) returns setof uuid
language plpgsql security definer set search_path = '' as $$
declare enrolled public.toolboxes;
begin
  update public.toolboxes
  set public_key = key, facts = host_facts, last_seen_at = now(), enrolment_hash = null,
    enrolment_expires_at = null, report_epoch = null, report_sequence = null, refused_epoch = null,
    rotation_asked_at = null
  where enrolment_hash = hash and enrolment_expires_at > now() and revoked_at is null
  returning * into enrolled;
  if not found then return; end if;
  insert into public.events (workspace_id, toolbox_id, layer, message)
  values (enrolled.workspace_id, enrolled.id, 'toolbox', 'Enrolled');
  return next enrolled.id;
end $$;

revoke all on function mooring.note_epoch, mooring.rotate_toolbox_key, mooring.before_toolbox_update
  from public;
grant execute on function mooring.note_epoch, mooring.rotate_toolbox_key to mooring_app;
