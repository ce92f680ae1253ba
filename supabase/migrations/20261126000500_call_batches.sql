-- Calls are recorded by columns, with what is the same of many said once: of what a call cost the embedded
-- database, two fifths went into reading and counting rows one by one (measured with 1,000 at a time).
-- mooring.record_calls(jsonb) stays for replicas of the version before.

-- Counts what has waited beside the sums for some seconds among them.
create function mooring.fold_calls_when_due() returns void language plpgsql set search_path = '' as $$
declare workspace uuid;
begin
  if not exists (select from mooring.call_folding f where f.due_at <= now()) then return; end if;
  update mooring.call_folding set due_at = now() + interval '10 seconds' where due_at <= now();
  if not found then return; end if;
  for workspace in select distinct t.workspace_id from public.call_tail t order by 1 loop
    perform mooring.fold_call_tail(workspace);
  end loop;
end $$;

create or replace function mooring.count_calls(added public.calls[]) returns void
language plpgsql set search_path = '' as $$
begin
  insert into public.call_tail (workspace_id, agent_id, server_id, server_slug, tool, via, outcome, at, bucket, calls)
  select c.workspace_id, c.agent_id, c.server_id, c.server_slug, c.tool, c.via, c.outcome,
    date_bin('1 minute', c.started_at, 'epoch'), mooring.duration_bucket(c.duration_ms), count(*)
  from unnest(added) c group by 1, 2, 3, 4, 5, 6, 7, 8, 9;
  perform mooring.fold_calls_when_due();
end $$;

-- The calls of one series, from the columns of a batch. Times are milliseconds since 1970 and microseconds.
create function mooring.calls_of_batch(series public.call_series, ids uuid[], started bigint[], took bigint[],
  requested integer[], answered integer[], errors text[]) returns setof public.calls
language sql stable as $$
  select c.id, series.workspace_id, series.agent_id, series.server_id, series.server_slug, series.tool, series.via,
    to_timestamp(c.started / 1000::double precision), c.took / 1000::double precision, series.outcome, c.error,
    c.requested, c.answered
  from unnest(ids, started, took, requested, answered, errors) c (id, started, took, requested, answered, error)
$$;

-- Records calls, many at once. Each of `batch` is what is the same of the calls from its `first` to its `last`
-- (from 1) of the columns; `errors` is empty where none has one. A batch that was recorded by an earlier try
-- is not counted again.
create function mooring.record_calls(batch jsonb, ids uuid[], started bigint[], took bigint[], requested integer[],
  answered integer[], errors text[]) returns void
language plpgsql security definer set search_path = '' as $$
declare
  one record;
  series public.call_series;
  added public.calls[];
begin
  for one in
    select s.first, s.last, w.id as workspace_id, a.id as agent_id, v.id as server_id, s.server_slug, s.tool, s.via,
      s.outcome
    from jsonb_to_recordset(batch) as s (first integer, last integer, workspace_id uuid, agent_id uuid,
      server_id uuid, server_slug text, tool text, via text, outcome text)
    join public.workspaces w on w.id = s.workspace_id
    -- What was removed since is recorded without its link, not lost.
    left join public.agents a on a.id = s.agent_id
    left join public.servers v on v.id = s.server_id
  loop
    series := row(null, one.workspace_id, one.agent_id, one.server_id, one.server_slug, one.tool, one.via, one.outcome,
      null);
    begin
      insert into public.calls select * from mooring.calls_of_batch(series, ids[one.first:one.last],
        started[one.first:one.last], took[one.first:one.last], requested[one.first:one.last],
        answered[one.first:one.last], errors[one.first:one.last]);
      insert into public.call_tail (workspace_id, agent_id, server_id, server_slug, tool, via, outcome, at, bucket,
        calls)
      select series.workspace_id, series.agent_id, series.server_id, series.server_slug, series.tool, series.via,
        series.outcome, to_timestamp(c.minute * 60), c.bucket, c.calls
      from (
        select t.started / 60000 as minute, mooring.duration_bucket(t.took / 1000::double precision) as bucket,
          count(*) as calls
        from unnest(started[one.first:one.last], took[one.first:one.last]) t (started, took) group by 1, 2
      ) c;
    exception when unique_violation then
      with new as (
        insert into public.calls select * from mooring.calls_of_batch(series, ids[one.first:one.last],
          started[one.first:one.last], took[one.first:one.last], requested[one.first:one.last],
          answered[one.first:one.last], errors[one.first:one.last])
        on conflict (id) do nothing
        returning *
      ) select array_agg(new::public.calls) into added from new;
      perform mooring.count_calls(added);
    end;
  end loop;
  perform mooring.fold_calls_when_due();
  -- One wake-up an agent and server, not one a call.
  perform pg_notify('mooring', json_build_object('table', 'calls', 'workspace', c.workspace_id,
    'server', c.server_id, 'toolbox', null, 'agent', c.agent_id)::text)
  from (select distinct workspace_id, server_id, agent_id
    from jsonb_to_recordset(batch) as c (workspace_id uuid, server_id uuid, agent_id uuid)) c;
end $$;

revoke all on function mooring.fold_calls_when_due, mooring.calls_of_batch,
  mooring.record_calls(jsonb, uuid[], bigint[], bigint[], integer[], integer[], text[]) from public;
grant execute on function mooring.record_calls(jsonb, uuid[], bigint[], bigint[], integer[], integer[], text[])
  to mooring_app;
