-- A report of a toolbox has the toolbox's row, and may roll its servers back or remove them; a person's change has
-- the server's row, and raises the toolbox's version. So a report takes its servers' rows first, as people do.
create function mooring.hold_servers(held uuid[]) returns void
language sql security definer set search_path = '' as $$
  select from public.servers s where s.id = any (held) and s.toolbox_id = mooring.toolbox_id()
  order by s.id for no key update
$$;
revoke all on function mooring.hold_servers from public;
grant execute on function mooring.hold_servers to mooring_toolbox;

-- What a client or a conversation may do as an agent, its person's role says: replicas that remember who a token is
-- of are told when it is another one.
create function mooring.wake_members() returns trigger
language plpgsql security definer set search_path = '' as $$
declare changed record;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  perform pg_notify('mooring', json_build_object('table', 'members', 'workspace', changed.workspace_id,
    'server', null, 'toolbox', null, 'agent', null)::text);
  return null;
end $$;
revoke all on function mooring.wake_members from public;
create trigger wake after insert or update or delete on public.members
  for each row execute function mooring.wake_members();

-- In one statement: between the insert that finds a request of the same key and a look at it, that one could fail and
-- be gone, and nobody's request was answered.
create or replace function mooring.begin_repeatable_request(new_id uuid, workspace uuid, person uuid, of_key text,
  sealed_with text, sealed_iv bytea, sealed bytea)
returns table (id uuid, key_id text, iv bytea, ciphertext bytea)
language plpgsql security definer set search_path = '' as $$
begin
  delete from mooring.repeatable_requests r where r.at < now() - interval '1 day';
  return query
    insert into mooring.repeatable_requests as r (id, workspace_id, user_id, key, key_id, iv, ciphertext)
    values (new_id, workspace, person, of_key, sealed_with, sealed_iv, sealed)
    on conflict on constraint repeatable_requests_workspace_id_user_id_key_key do update set key = excluded.key
    returning r.id, r.key_id, r.iv, r.ciphertext;
end $$;

-- Null: as it is. Whoever says the one alone must not bring the other back as it was when they looked.
create or replace function mooring.keep_bodies(workspace uuid, is_on boolean, days integer) returns void
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
  is_on := coalesce(is_on, before.keeps_bodies);
  days := coalesce(days, before.bodies_kept_days);
  update public.workspaces w set keeps_bodies = is_on, bodies_kept_days = days where w.id = workspace;
  if not is_on then delete from public.call_bodies b where b.workspace_id = workspace; end if;
  update mooring.upkeep set due_at = now();
  if (before.keeps_bodies, before.bodies_kept_days) is distinct from (is_on, days) then
    perform mooring.say_in_workspace(workspace, case
      when is_on then 'What is said in calls is kept, for ' || days || case days when 1 then ' day' else ' days' end
      else 'What is said in calls is not kept any more, and what was is deleted' end);
  end if;
end $$;
