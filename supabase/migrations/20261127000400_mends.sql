-- Whether somebody is a person of Mooring's: the last of what makes an account. An account that its making broke
-- off before that belongs to nothing, and is made again.
create function mooring.is_person(account uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from public.profiles p where p.user_id = account)
$$;
revoke all on function mooring.is_person from public;
grant execute on function mooring.is_person to mooring_app;

-- A time far beyond what is ever set comes from a clock that was ahead: then the work is due as well, and does not
-- wait until the clock is there again. Not what is a little beyond: a transaction's now() is when it began, and
-- another that began after it may have set the time.
create or replace function mooring.fold_calls_when_due() returns void language plpgsql set search_path = '' as $$
declare workspace uuid;
begin
  if not exists (select from mooring.call_folding f
    where f.due_at <= now() or f.due_at > now() + interval '1 minute') then return; end if;
  update mooring.call_folding set due_at = now() + interval '10 seconds'
  where due_at <= now() or due_at > now() + interval '1 minute';
  if not found then return; end if;
  for workspace in select distinct t.workspace_id from public.call_tail t order by 1 loop
    perform mooring.fold_call_tail(workspace);
  end loop;
end $$;

-- As before, but for when it is due.
create or replace function mooring.remove_expired(most integer) returns integer
language plpgsql security definer set search_path = '' set enable_bitmapscan = off as $$
declare
  w record;
  s record;
  removed integer := 0;
  n integer;
begin
  update mooring.upkeep set due_at = now() + interval '10 minutes'
  where due_at <= now() or due_at > now() + interval '20 minutes';
  if not found then return 0; end if;
  for w in select id, now() - make_interval(days => calls_kept_days) as until,
    now() - make_interval(days => bodies_kept_days) as bodies_until from public.workspaces loop
    delete from public.call_bodies b where b.call_id in (
      select o.call_id from public.call_bodies o where o.workspace_id = w.id and o.at < w.bodies_until
      order by o.at limit most - removed);
    get diagnostics n = row_count; removed := removed + n;
    delete from public.calls c where c.id in (
      select o.id from public.calls o where o.workspace_id = w.id and o.started_at < w.until
      order by o.started_at limit most - removed);
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
