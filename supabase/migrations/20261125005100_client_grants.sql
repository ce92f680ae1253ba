-- MCP clients that a person let act as an agent (OAuth 2.1). A grant is a token of the agent whose text
-- nobody has: it is listed, used and revoked as one, and the client's short-lived tokens stand for it.
alter table public.agent_tokens
  -- What the client is known by at the authorization server; null of a token that a person made.
  add column client_id text check (length(client_id) <= 2048),
  -- Where the answer to its request went: all that is known of a client for sure.
  add column client_host text check (length(client_host) <= 300),
  add column granted_by uuid;
grant select (client_id, client_host, granted_by) on public.agent_tokens to authenticated;
create policy own_grants on public.agent_tokens as restrictive for insert to authenticated
  with check (granted_by is null or granted_by = auth.uid());

-- What better-auth's OAuth provider writes. A Supabase project has an authorization server of its own.
-- Lists are JSON in text: its adapter knows no arrays.
do $$ begin
  if to_regclass('auth.accounts') is null then
    create function mooring.agent_of_client_token(hash text)
    returns table (token_id uuid, agent_id uuid, workspace_id uuid, expires_at timestamptz,
      resources jsonb, scopes jsonb)
    language sql stable set search_path = '' as $f$
      select null::uuid, null::uuid, null::uuid, null::timestamptz, null::jsonb, null::jsonb
      where false
    $f$;
    revoke all on function mooring.agent_of_client_token from public;
    grant execute on function mooring.agent_of_client_token to mooring_app;
    return;
  end if;

  create table auth.oauth_clients (
    id uuid primary key,
    "clientId" text not null unique,
    "clientSecret" text,
    "clientDiscoveryId" text,
    disabled boolean default false,
    "skipConsent" boolean,
    "enableEndSession" boolean,
    "subjectType" text,
    scopes text,
    "clientCredentialsScopes" text,
    "userId" uuid references auth.users (id) on delete cascade,
    "createdAt" timestamptz not null default now(),
    -- Of a client that is known by its metadata's address: when that was read.
    "updatedAt" timestamptz not null default now(),
    name text,
    uri text,
    icon text,
    contacts text,
    tos text,
    policy text,
    "softwareId" text,
    "softwareVersion" text,
    "softwareStatement" text,
    "redirectUris" text not null,
    "postLogoutRedirectUris" text,
    "backchannelLogoutUri" text,
    "backchannelLogoutSessionRequired" boolean,
    "tokenEndpointAuthMethod" text,
    "applicationType" text,
    jwks text,
    "jwksUri" text,
    "grantTypes" text,
    "responseTypes" text,
    "requirePKCE" boolean,
    "dpopBoundAccessTokens" boolean default false,
    "referenceId" text,
    metadata jsonb
  );
  create index on auth.oauth_clients ("createdAt");

  create table auth.oauth_resources (
    id uuid primary key,
    identifier text not null unique,
    name text not null,
    "accessTokenTtl" integer,
    "refreshTokenTtl" integer,
    "signingAlgorithm" text,
    "signingKeyId" text,
    "allowedScopes" text,
    "customClaims" jsonb,
    "dpopBoundAccessTokensRequired" boolean default false,
    disabled boolean default false,
    "createdAt" timestamptz,
    "updatedAt" timestamptz,
    "policyVersion" integer default 1,
    metadata jsonb
  );

  create table auth.oauth_client_resources (
    id uuid primary key,
    "clientId" text not null references auth.oauth_clients ("clientId") on delete cascade,
    "resourceId" text not null references auth.oauth_resources (identifier) on delete cascade,
    metadata jsonb,
    "createdAt" timestamptz,
    unique ("clientId", "resourceId")
  );

  create table auth.oauth_refresh_tokens (
    id uuid primary key,
    -- A hash, here and of access tokens: who reads the table can be no client.
    token text not null unique,
    "clientId" text not null references auth.oauth_clients ("clientId") on delete cascade,
    "sessionId" uuid references auth.sessions (id) on delete set null,
    "userId" uuid not null references auth.users (id) on delete cascade,
    -- The grant.
    "referenceId" uuid not null references public.agent_tokens (id) on delete cascade,
    "authorizationCodeId" text,
    resources text,
    "requestedUserInfoClaims" text,
    "expiresAt" timestamptz not null,
    "createdAt" timestamptz not null,
    revoked timestamptz,
    "rotatedAt" timestamptz,
    "rotationReplayResponse" text,
    "rotationReplayExpiresAt" timestamptz,
    "authTime" timestamptz,
    confirmation jsonb,
    scopes text not null
  );
  create index on auth.oauth_refresh_tokens ("clientId", "userId");
  create index on auth.oauth_refresh_tokens ("sessionId");
  create index on auth.oauth_refresh_tokens ("userId");
  create index on auth.oauth_refresh_tokens ("referenceId");
  create index on auth.oauth_refresh_tokens ("authorizationCodeId");

  create table auth.oauth_access_tokens (
    id uuid primary key,
    token text not null unique,
    "clientId" text not null references auth.oauth_clients ("clientId") on delete cascade,
    "sessionId" uuid references auth.sessions (id) on delete set null,
    "userId" uuid not null references auth.users (id) on delete cascade,
    "referenceId" uuid not null references public.agent_tokens (id) on delete cascade,
    "authorizationCodeId" text,
    resources text,
    "requestedUserInfoClaims" text,
    "refreshId" uuid references auth.oauth_refresh_tokens (id) on delete cascade,
    "expiresAt" timestamptz not null,
    "createdAt" timestamptz not null,
    revoked timestamptz,
    confirmation jsonb,
    scopes text not null
  );
  create index on auth.oauth_access_tokens ("clientId");
  create index on auth.oauth_access_tokens ("sessionId");
  create index on auth.oauth_access_tokens ("userId");
  create index on auth.oauth_access_tokens ("referenceId");
  create index on auth.oauth_access_tokens ("authorizationCodeId");
  create index on auth.oauth_access_tokens ("refreshId");

  create table auth.oauth_consents (
    id uuid primary key,
    "clientId" text not null references auth.oauth_clients ("clientId") on delete cascade,
    "userId" uuid references auth.users (id) on delete cascade,
    "referenceId" uuid not null references public.agent_tokens (id) on delete cascade,
    resources text,
    "requestedUserInfoClaims" text,
    scopes text not null,
    "createdAt" timestamptz not null,
    "updatedAt" timestamptz not null
  );
  create index on auth.oauth_consents ("clientId", "userId");
  create index on auth.oauth_consents ("userId");
  create index on auth.oauth_consents ("referenceId");

  create table auth.oauth_client_assertions (id text primary key, "expiresAt" timestamptz not null);

  grant select, insert, update, delete on auth.oauth_clients, auth.oauth_resources,
    auth.oauth_client_resources, auth.oauth_refresh_tokens, auth.oauth_access_tokens,
    auth.oauth_consents, auth.oauth_client_assertions to mooring_app;

  -- Which agent a client acts as, while its person is one who may let it. No row when the token is
  -- unknown, expired, or its grant is revoked.
  create function mooring.agent_of_client_token(hash text)
  returns table (token_id uuid, agent_id uuid, workspace_id uuid, expires_at timestamptz,
    resources jsonb, scopes jsonb)
  language sql stable security definer set search_path = '' as $f$
    select g.id, g.agent_id, g.workspace_id, least(t."expiresAt", g.expires_at),
      t.resources::jsonb, t.scopes::jsonb
    from auth.oauth_access_tokens t
    join public.agent_tokens g on g.id = t."referenceId"
    join public.members m on m.workspace_id = g.workspace_id and m.user_id = t."userId"
      and m.role in ('owner', 'admin', 'member')
    where t.token = hash and t.revoked is null and t."expiresAt" > now()
      and g.revoked_at is null and (g.expires_at is null or g.expires_at > now())
  $f$;
  revoke all on function mooring.agent_of_client_token from public;
  grant execute on function mooring.agent_of_client_token to mooring_app;

  -- A client gives up its grant, by either of its tokens.
  create function mooring.revoke_client_grant(hash text, client text) returns void
  language sql security definer set search_path = '' as $f$
    update public.agent_tokens set revoked_at = now()
    where revoked_at is null and client_id = client and id in (
      select "referenceId" from auth.oauth_refresh_tokens where token = hash
      union all
      select "referenceId" from auth.oauth_access_tokens where token = hash)
  $f$;
  revoke all on function mooring.revoke_client_grant from public;
  grant execute on function mooring.revoke_client_grant to mooring_app;

  -- A revoked grant has nothing left to be renewed by.
  create function mooring.end_client_tokens() returns trigger
  language plpgsql security definer set search_path = '' as $f$ begin
    delete from auth.oauth_refresh_tokens where "referenceId" = new.id;
    delete from auth.oauth_access_tokens where "referenceId" = new.id;
    return null;
  end $f$;
  revoke all on function mooring.end_client_tokens from public;
  create trigger end_client_tokens after update of revoked_at on public.agent_tokens
    for each row when (new.revoked_at is not null and new.client_id is not null)
    execute function mooring.end_client_tokens();
end $$;
