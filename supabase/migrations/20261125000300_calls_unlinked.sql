-- A call is recorded on the path of every call. Its three foreign keys cost more than all else in
-- writing it (embedded, medians of six batches one after the other on a loaded machine: 236 us a row
-- with them, 83 without), so what they did is done when the other end goes, which is seldom.

alter table public.calls
  drop constraint calls_workspace_id_fkey,
  drop constraint calls_agent_id_fkey,
  drop constraint calls_server_id_fkey;

-- As its definer: whoever removes an agent may not change calls.
create function mooring.unlink_calls() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  case tg_table_name
    when 'workspaces' then
      delete from public.calls c using gone where c.workspace_id = gone.id;
    when 'agents' then
      update public.calls c set agent_id = null from gone where c.agent_id = gone.id;
    when 'servers' then
      update public.calls c set server_id = null from gone where c.server_id = gone.id;
  end case;
  return null;
end $$;
revoke all on function mooring.unlink_calls() from public;

create trigger unlink_calls after delete on public.workspaces
  referencing old table as gone for each statement execute function mooring.unlink_calls();
create trigger unlink_calls after delete on public.agents
  referencing old table as gone for each statement execute function mooring.unlink_calls();
create trigger unlink_calls after delete on public.servers
  referencing old table as gone for each statement execute function mooring.unlink_calls();
