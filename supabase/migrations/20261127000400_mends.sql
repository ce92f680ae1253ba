-- Whether somebody is a person of Mooring's: the last of what makes an account. An account that its making broke
-- off before that belongs to nothing, and is made again.
create function mooring.is_person(account uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from public.profiles p where p.user_id = account)
$$;
revoke all on function mooring.is_person from public;
grant execute on function mooring.is_person to mooring_app;
