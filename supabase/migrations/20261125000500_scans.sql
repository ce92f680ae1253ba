-- Vulnerabilities in what servers' images are made of, as scanners on their toolboxes find them.

create table public.server_scans (
  server_id uuid primary key,
  workspace_id uuid not null,
  -- ImageScan of dtma/protocol.ts: the newest.
  scan jsonb not null,
  scanned_at timestamptz not null,
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);
revoke all on public.server_scans from public, anon, authenticated;
alter table public.server_scans enable row level security;
alter table public.server_scans force row level security;
grant select on public.server_scans to authenticated;
create policy person_reads on public.server_scans for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
grant select, insert, update, delete on public.server_scans to mooring_toolbox;
create policy toolbox_writes on public.server_scans for all to mooring_toolbox
  using (server_id in (select s.id from public.servers s))
  with check (server_id in (select s.id from public.servers s));
create trigger wake after insert or update on public.server_scans
  for each row execute function mooring.wake();
