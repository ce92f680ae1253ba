-- Versions of a toolbox's DTMA: one that the app cannot speak with says so on its toolbox's page, and
-- upgrades and their roll-backs are events.

-- Why its DTMA was refused when it was last heard of; null when it was not.
alter table public.toolboxes add column refusal text check (length(refusal) <= 500);
grant select (refusal) on public.toolboxes to authenticated;
grant update (refusal) on public.toolboxes to mooring_toolbox;

create trigger wake_on_refusal after update of refusal on public.toolboxes
  for each row when (old.refusal is distinct from new.refusal) execute function mooring.wake();

-- What the DTMA's own facts tell, once.
create function mooring.after_dtma_changed() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  rolled_back jsonb := new.facts -> 'rolledBack';
  events jsonb := '[]';
begin
  if new.refusal is not null and old.refusal is distinct from new.refusal then
    events := events || jsonb_build_object('level', 'error', 'message', new.refusal);
  end if;
  if old.facts ->> 'dtmaVersion' <> new.facts ->> 'dtmaVersion' then
    events := events || jsonb_build_object('level', 'info', 'message',
      'Runs DTMA ' || (new.facts ->> 'dtmaVersion') || '; it was ' || (old.facts ->> 'dtmaVersion'));
  end if;
  if rolled_back ->> 'at' is distinct from old.facts #>> '{rolledBack,at}' and rolled_back ->> 'at' is not null then
    events := events || jsonb_build_object('level', 'error', 'message',
      'The upgrade to DTMA ' || (rolled_back ->> 'version') || ' was rolled back. ' || (rolled_back ->> 'reason'));
  end if;
  insert into public.events (workspace_id, toolbox_id, layer, level, message)
  select new.workspace_id, new.id, 'toolbox', e ->> 'level', e ->> 'message'
  from jsonb_array_elements(events) e;
  return null;
end $$;
create trigger dtma_changed after update of facts, refusal on public.toolboxes
  for each row when (old.facts is not null and (old.facts, old.refusal) is distinct from (new.facts, new.refusal))
  execute function mooring.after_dtma_changed();
revoke all on function mooring.after_dtma_changed from public;

-- Whether this machine's toolbox was ever enrolled, and is heard of.
create function mooring.local_toolbox_state() returns text
language sql stable security definer set search_path = '' as $$
  select coalesce((select case
      when t.public_key is null then 'new'
      when t.last_seen_at > now() - interval '75 seconds' then 'heard'
      else 'silent' end
    from public.toolboxes t where t.is_local order by t.created_at limit 1), 'new')
$$;
revoke all on function mooring.local_toolbox_state from public;
grant execute on function mooring.local_toolbox_state to mooring_app;
