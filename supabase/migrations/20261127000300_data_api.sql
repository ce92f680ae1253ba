-- What secrets and accounts go to is the app's to write: it lets them go along with the same package, host or
-- server alone. At a Supabase project's own API (PostgREST, which is the session user `authenticator`) a member
-- could write a generation that sends a server's secrets to a package of theirs, or move an account to another
-- server; row level security knows nobody's reasons. So nobody writes these tables there. They read as before.
do $$
declare t text;
begin
  foreach t in array array['server_generations', 'secrets', 'connection_secrets', 'authorizations', 'chat_models'] loop
    execute format('create policy app_alone_inserts on public.%I as restrictive for insert to authenticated
      with check (session_user <> ''authenticator'')', t);
    execute format('create policy app_alone_updates on public.%I as restrictive for update to authenticated
      using (session_user <> ''authenticator'')', t);
  end loop;
end $$;
