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

alter function mooring.remove_expired(integer) rename to remove_expired_when_due;
revoke all on function mooring.remove_expired_when_due from public, mooring_app;
create function mooring.remove_expired(most integer) returns integer
language plpgsql security definer set search_path = '' as $$
begin
  update mooring.upkeep set due_at = now() where due_at > now() + interval '20 minutes';
  return mooring.remove_expired_when_due(most);
end $$;
revoke all on function mooring.remove_expired from public;
grant execute on function mooring.remove_expired to mooring_app;
