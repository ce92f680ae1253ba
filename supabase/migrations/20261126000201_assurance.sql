-- An account with a second factor of Supabase Auth's is nobody's by a password alone, at the project's own API
-- (PostgREST) as little as at the app, which looks before it asks anything (mooring.supabase_person).

create function mooring.has_second_factor(person uuid) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  if to_regclass('auth.mfa_factors') is null then return false; end if;
  return exists (select from auth.mfa_factors f where f.user_id = person and f.status = 'verified');
end $$;

-- As it was, but for two conditions. `client_id` is in the tokens of clients that a project signed in
-- (20261126000100); `aal` is in each of Supabase's access tokens, and in no claims of the app's own: they cost
-- nothing here.
create or replace function mooring.workspaces_as(minimum text) returns setof uuid
language sql stable security definer set search_path = '' as $$
  select workspace_id from public.members
  where user_id = auth.uid()
    and mooring.claim('client_id') is null
    and workspace_id = coalesce(mooring.claim('mooring_workspace')::uuid, workspace_id)
    and array_position(array['viewer', 'member', 'admin', 'owner'], role)
      >= array_position(array['viewer', 'member', 'admin', 'owner'], minimum)
    and case when coalesce(mooring.claim('aal'), 'aal2') = 'aal2' then true
      else not mooring.has_second_factor(auth.uid()) end
$$;

revoke all on function mooring.has_second_factor from public, anon, authenticated, service_role;
grant execute on function mooring.has_second_factor to mooring_app;
