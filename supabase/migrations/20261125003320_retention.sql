-- What happened is kept for a time that a workspace chooses, and removed in small batches by whoever comes.

alter table public.workspaces
  add column calls_kept_days integer not null default 90
    check (calls_kept_days in (7, 30, 90, 180, 365, 730));
-- By the policy that renames them: owners and admins.
grant update (calls_kept_days) on public.workspaces to authenticated;

create function mooring.after_retention_changed() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform mooring.say_in_workspace(new.id, 'Calls and events are kept for ' || new.calls_kept_days
    || ' days, not ' || old.calls_kept_days);
  update mooring.upkeep set due_at = now();
  return null;
end $$;
create trigger after_retention_changed after update of calls_kept_days on public.workspaces
  for each row when (old.calls_kept_days is distinct from new.calls_kept_days)
  execute function mooring.after_retention_changed();

-- To find what is old; a workspace's own events are kept as long as it is.
create index events_to_remove on public.events (workspace_id, at) where layer <> 'workspace';
create index trial_runs_to_remove on public.trial_runs (workspace_id, started_at);

-- One row: when old rows are looked for next. Whoever has it works, and no other replica at the time.
create table mooring.upkeep (
  is_one boolean primary key default true check (is_one),
  due_at timestamptz not null default now()
);
insert into mooring.upkeep default values;
alter table mooring.upkeep enable row level security;
alter table mooring.upkeep force row level security;

-- Removes what is older than its workspace keeps it, at most so many rows; the number of them. Zero at
-- once when it is not due: that is every ten minutes, and at once while more is left.
create function mooring.remove_expired(most integer) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  w record;
  s record;
  removed integer := 0;
  n integer;
begin
  update mooring.upkeep set due_at = now() + interval '10 minutes' where due_at <= now();
  if not found then return 0; end if;
  for w in select id, now() - make_interval(days => calls_kept_days) as until,
    now() - make_interval(days => bodies_kept_days) as bodies_until from public.workspaces loop
    delete from public.call_bodies b where b.call_id in (
      select o.call_id from public.call_bodies o where o.workspace_id = w.id and o.at < w.bodies_until
      order by o.at limit most - removed);
    get diagnostics n = row_count; removed := removed + n;
    delete from public.calls c where c.id in (
      select o.id from public.calls o where o.workspace_id = w.id and o.started_at < w.until
      order by o.started_at, o.id limit most - removed);
    get diagnostics n = row_count; removed := removed + n;
    delete from public.events e where e.id in (
      select o.id from public.events o where o.workspace_id = w.id and o.at < w.until and o.layer <> 'workspace'
      order by o.at limit most - removed);
    get diagnostics n = row_count; removed := removed + n;
    delete from public.trial_runs t where t.id in (
      select o.id from public.trial_runs o
      where o.workspace_id = w.id and o.started_at < w.until and o.state <> 'running'
      order by o.started_at limit most - removed);
    get diagnostics n = row_count; removed := removed + n;
    -- Sums have times of their own, which do not depend on the workspace.
    for s in select * from mooring.call_spans() loop
      delete from public.call_sums c where c.ctid = any (array(
        select o.ctid from public.call_sums o
        where o.workspace_id = w.id and o.span_seconds = s.seconds and o.at < now() - s.kept
        order by o.at limit most - removed));
      get diagnostics n = row_count; removed := removed + n;
    end loop;
    exit when removed >= most;
  end loop;
  if removed >= most then update mooring.upkeep set due_at = now(); end if;
  return removed;
end $$;
revoke all on function mooring.remove_expired, mooring.after_retention_changed from public;
grant execute on function mooring.remove_expired to mooring_app;
