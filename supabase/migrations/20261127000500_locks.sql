-- A report of a toolbox has the toolbox's row, and may roll its servers back or remove them; a person's change has
-- the server's row, and raises the toolbox's version. So a report takes its servers' rows first, as people do.
create function mooring.hold_servers(held uuid[]) returns void
language sql security definer set search_path = '' as $$
  select from public.servers s where s.id = any (held) and s.toolbox_id = mooring.toolbox_id()
  order by s.id for no key update
$$;
revoke all on function mooring.hold_servers from public;
grant execute on function mooring.hold_servers to mooring_toolbox;
