-- An event says which generation of its server it is about: why a generation was made is read there.

alter table public.events add column generation integer check (generation > 0);
grant insert (generation) on public.events to mooring_toolbox;
create index on public.events (server_id, generation)
  where layer = 'request' and generation is not null;

-- Whoever asks for a change writes its event in the transaction that makes the generation, so both bear
-- that transaction's time. Here and not in each verb: no way to a new generation can leave it out.
create function mooring.note_generation() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  select max(g.generation) into new.generation from public.server_generations g
  where g.server_id = new.server_id and g.workspace_id = new.workspace_id and g.created_at = now();
  return new;
end $$;
revoke all on function mooring.note_generation from public;
create trigger note_generation before insert on public.events for each row
  when (new.layer = 'request' and new.server_id is not null and new.generation is null)
  execute function mooring.note_generation();

update public.events e set generation = g.generation
from public.server_generations g
where g.server_id = e.server_id and g.created_at = e.at and e.layer = 'request';
