-- Who forgets sessions is told which: what servers hold for one of them alone ends with it.
drop function mooring.forget_mcp_sessions(uuid);

-- Forgets sessions that nobody used for long, and those of an agent beyond its newest thousand.
create function mooring.forget_mcp_sessions(agent uuid)
returns table (id uuid, agent_id uuid, scope text)
language sql security definer set search_path = '' as $$
  delete from public.mcp_sessions s where s.expires_at < now() or s.id in (
    select o.id from public.mcp_sessions o where o.agent_id = agent
    order by o.expires_at desc, o.id offset 1000)
  returning s.id, s.agent_id, s.scope
$$;

revoke all on function mooring.forget_mcp_sessions from public;
grant execute on function mooring.forget_mcp_sessions to mooring_app;
