-- A call costs the database half of what it did: of that, most went into three indexes of every call. Now one
-- has them all, by workspace, in the order that they come in. Those of agents and servers have the leads only.
--
-- A lead stands for the calls beside it: of the calls that one batch has of a series (see call_sums) within a
-- hundredth of a second (of 1970 on), the newest. So the newest n calls of an agent are within the hundredths
-- of its newest n leads, and are read there by their workspace. Calls that do not come in crowds are all
-- leads, and so are those of before.

-- Told by who records (models/calls.ts). True is never wrong: a lead more is an entry more in two indexes.
alter table public.calls add column leads boolean not null default true;

drop index public.calls_of_workspace, public.calls_of_agent, public.calls_of_server, public.calls_not_ok,
  public.calls_tried;
-- Ascending, since what is added at the end of an index is added with little search and fills its pages.
create index calls_of_workspace on public.calls (workspace_id, started_at);
create index calls_of_agent on public.calls (agent_id, started_at) where leads;
create index calls_of_server on public.calls (server_id, started_at) where leads;
create index calls_not_ok on public.calls (workspace_id, started_at) where outcome <> 'ok';
create index calls_tried on public.calls (workspace_id, started_at) where via = 'trial';

-- The hundredth of a second that a lead stands for begins then.
create function mooring.lead_from(at timestamptz) returns timestamptz language sql immutable as $$
  select date_bin('10 milliseconds', at, 'epoch')
$$;

-- What is the same of many calls of a batch, as far as there is still such a workspace. What was removed since
-- is recorded without its link, not lost.
create function mooring.series_of_batch(batch jsonb) returns table (first integer, last integer, workspace_id uuid,
  agent_id uuid, server_id uuid, server_slug text, tool text, via text, outcome text, counts jsonb)
language sql stable as $$
  select s.first, s.last, w.id, a.id, v.id, s.server_slug, s.tool, s.via, s.outcome, s.counts
  from jsonb_to_recordset(batch) as s (first integer, last integer, workspace_id uuid, agent_id uuid,
    server_id uuid, server_slug text, tool text, via text, outcome text, counts jsonb)
  join public.workspaces w on w.id = s.workspace_id
  left join public.agents a on a.id = s.agent_id
  left join public.servers v on v.id = s.server_id
$$;

drop function mooring.calls_of_batch;
-- The calls of a batch, as mooring.record_calls has it: of all series in one statement, so that a batch of
-- many is no dearer. `are_leads` is null where nobody says which lead.
create function mooring.calls_of_batch(batch jsonb, ids uuid[], started bigint[], took bigint[], requested integer[],
  answered integer[], errors text[], are_leads boolean[]) returns setof public.calls
language sql stable as $$
  with series as materialized (select * from mooring.series_of_batch(batch))
  select c.id, s.workspace_id, s.agent_id, s.server_id, s.server_slug, s.tool, s.via,
    to_timestamp(c.started / 1000::double precision), c.took / 1000::double precision, s.outcome, c.error,
    c.requested, c.answered, coalesce(c.leads, true)
  from series s cross join lateral unnest(ids[s.first:s.last], started[s.first:s.last],
    took[s.first:s.last], requested[s.first:s.last], answered[s.first:s.last], errors[s.first:s.last],
    are_leads[s.first:s.last]) c (id, started, took, requested, answered, error, leads)
$$;

-- Records and counts those of a batch that are not recorded yet.
create function mooring.record_new_calls(batch jsonb, ids uuid[], started bigint[], took bigint[],
  requested integer[], answered integer[], errors text[], are_leads boolean[]) returns void
language plpgsql set search_path = '' as $$
declare added public.calls[];
begin
  with new as (
    insert into public.calls
    select * from mooring.calls_of_batch(batch, ids, started, took, requested, answered, errors, are_leads)
    on conflict (id) do nothing
    returning *
  ) select array_agg(new::public.calls) into added from new;
  perform mooring.count_calls(added);
end $$;

-- One wake-up an agent and server, not one a call.
create function mooring.tell_of_calls(batch jsonb) returns void language sql set search_path = '' as $$
  select pg_notify('mooring', json_build_object('table', 'calls', 'workspace', c.workspace_id,
    'server', c.server_id, 'toolbox', null, 'agent', c.agent_id)::text)
  from (select distinct workspace_id, server_id, agent_id
    from jsonb_to_recordset(batch) as c (workspace_id uuid, server_id uuid, agent_id uuid)) c
$$;

-- Records calls, many at once. Each of `batch` is what is the same of the calls from its `first` to its `last`
-- (from 1) of the columns, and in `counts` how many there are of each minute (of 1970 on) and bucket of
-- durations. Times are milliseconds since 1970 and microseconds; `errors` is empty where none has one. A batch
-- that was recorded by an earlier try is not counted again.
create function mooring.record_calls(batch jsonb, ids uuid[], started bigint[], took bigint[], requested integer[],
  answered integer[], errors text[], are_leads boolean[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  begin
    insert into public.calls
    select * from mooring.calls_of_batch(batch, ids, started, took, requested, answered, errors, are_leads);
    insert into public.call_tail (workspace_id, agent_id, server_id, server_slug, tool, via, outcome, at, bucket,
      calls)
    select s.workspace_id, s.agent_id, s.server_id, s.server_slug, s.tool, s.via, s.outcome,
      to_timestamp((n ->> 0)::bigint * 60), (n ->> 1)::smallint, (n ->> 2)::integer
    from mooring.series_of_batch(batch) s cross join lateral jsonb_array_elements(s.counts) n;
  exception when unique_violation then
    perform mooring.record_new_calls(batch, ids, started, took, requested, answered, errors, are_leads);
  end;
  perform mooring.fold_calls_when_due();
  perform mooring.tell_of_calls(batch);
end $$;

-- For replicas of the version before, as mooring.record_calls(jsonb) is for those before that.
create or replace function mooring.record_calls(batch jsonb, ids uuid[], started bigint[], took bigint[],
  requested integer[], answered integer[], errors text[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform mooring.record_new_calls(batch, ids, started, took, requested, answered, errors, null);
  perform mooring.tell_of_calls(batch);
end $$;

-- Removes what is older than its workspace keeps it, at most so many rows; the number of them. Zero at
-- once when it is not due: that is every ten minutes, and at once while more is left. The oldest come first
-- from an index, of which Postgres without statistics would sort all that is old.
create or replace function mooring.remove_expired(most integer) returns integer
language plpgsql security definer set search_path = '' set enable_bitmapscan = off as $$
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
-- Finds what it unlinks as lists do: by leads.
create or replace function mooring.unlink_calls() returns trigger
language plpgsql security definer set search_path = '' as $$
declare one record;
begin
  case tg_table_name
    when 'workspaces' then
      delete from public.calls c using gone where c.workspace_id = gone.id;
      delete from public.call_sums s using gone where s.workspace_id = gone.id;
      delete from public.call_tail t using gone where t.workspace_id = gone.id;
      delete from public.call_series s using gone where s.workspace_id = gone.id;
    else
      for one in select gone.id from gone loop
        execute format($q$
          update public.calls c set %1$I = null where c.id = any (array(
            select m.id from (select distinct l.workspace_id, mooring.lead_from(l.started_at) as at
              from public.calls l where l.%1$I = $1 and l.leads) s
            cross join lateral (select m.id from public.calls m where m.workspace_id = s.workspace_id
              and m.started_at >= s.at and m.started_at < s.at + interval '10 milliseconds'
              and m.%1$I = $1 offset 0) m))
        $q$, case tg_table_name when 'agents' then 'agent_id' when 'servers' then 'server_id' end) using one.id;
      end loop;
  end case;
  return null;
end $$;

do $$
declare f regprocedure;
begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'mooring'::regnamespace
    and p.proname in ('lead_from', 'series_of_batch', 'calls_of_batch', 'record_new_calls', 'tell_of_calls',
      'record_calls') loop
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
grant execute on function
  mooring.record_calls(jsonb, uuid[], bigint[], bigint[], integer[], integer[], text[], boolean[]) to mooring_app;
