/** The pages and the API stay together: each form and page has its operations, or a reason why it has none. */
import assert from "node:assert/strict";
import { createApp } from "../../../app.ts";
import type { Deps } from "../../../routes/deps.ts";
import { OPERATIONS } from "../../../routes/api/operations.ts";

/** Names of operations; or, where there is none, why. */
type Counterpart = string[] | { none: string };

const SIGNING_IN = { none: "it is how a person signs in; a program has a token" };
const OWN_ACCOUNT = {
  none: "it is a person's own account, which a token that is lost must not be able to take over",
};
const OWN_TOKENS = {
  none: "a token could make another one that outlives it: but it can end itself (revoke_own_token)",
};
const WHO_IS_IN = {
  none:
    "who is in a workspace, and as what, is for people who are signed in to say: a token could " +
    "let others in, or take its owner's place",
};
const LETTING_IN = {
  none: "a person lets a client in, signed in and before their eyes; a program has a token",
};
const ONE_WORKSPACE = { none: "a token is of one workspace" };
const RUNS = {
  none: "a run is what a page waits with and asks questions on; call_tool answers the call itself",
};

const FORMS: Record<string, Counterpart> = {
  "/account/access/end": OWN_ACCOUNT,
  "/account/email": OWN_ACCOUNT,
  "/account/name": OWN_ACCOUNT,
  "/account/passkeys": OWN_ACCOUNT,
  "/account/passkeys/:id": OWN_ACCOUNT,
  "/account/passkeys/:id/remove": OWN_ACCOUNT,
  "/account/passkeys/options": OWN_ACCOUNT,
  "/account/password": OWN_ACCOUNT,
  "/account/second-factor": OWN_ACCOUNT,
  "/account/second-factor/codes": OWN_ACCOUNT,
  "/account/second-factor/off": OWN_ACCOUNT,
  "/account/second-factor/on": OWN_ACCOUNT,
  "/account/sessions/:id/end": OWN_ACCOUNT,
  "/account/sessions/end": OWN_ACCOUNT,
  "/account/tokens": OWN_TOKENS,
  "/account/tokens/:id/revoke": OWN_TOKENS,
  "/agents": ["create_agent"],
  "/agents/:id/connections": ["connect_server"],
  "/agents/:id/connections/:server": ["connect_server"],
  "/agents/:id/connections/:server/remove": ["disconnect_server"],
  "/agents/:id/connections/:server/secrets": ["change_own_credentials"],
  "/agents/:id/connections/:server/tools/:name": ["change_tool"],
  "/agents/:id/conversing": ["change_agent"],
  "/agents/:id/management": {
    none: "a token, or an agent that manages Mooring, could give itself more",
  },
  "/agents/:id/options": ["change_agent"],
  "/agents/:id/remove": ["remove_agent"],
  "/agents/:id/tokens": ["create_agent_token"],
  "/agents/:id/tokens/:token/revoke": ["revoke_agent_token"],
  "/chat": ["create_conversation", "send_message"],
  "/chat/:id/calls/:call": ["decide_call"],
  "/chat/:id/delete": ["delete_conversation"],
  "/chat/:id/messages": ["send_message"],
  "/chat/:id/questions/:question": ["answer_question"],
  "/chat/:id/rename": ["rename_conversation"],
  "/chat/:id/turns/:turn/retry": ["retry_turn"],
  "/chat/:id/turns/:turn/stop": ["stop_turn"],
  "/join": WHO_IS_IN,
  "/join/sign-up": SIGNING_IN,
  "/marketplace/:slug/remove": ["remove_catalog_entry"],
  "/marketplace/sources": ["add_catalog_source"],
  "/marketplace/sources/:id/remove": ["remove_catalog_source"],
  "/marketplace/sources/:id/schedule": ["change_catalog_source"],
  "/marketplace/sources/:id/sync": ["sync_catalog_source"],
  "/marketplace/sources/upload": ["upload_catalog_source"],
  "/marketplace/sources/write": ["write_catalog_entry"],
  "/new-password": SIGNING_IN,
  "/new-password/link": SIGNING_IN,
  "/oauth/authorize": LETTING_IN,
  "/requests/:id/approve": ["approve_request"],
  "/requests/:id/reject": ["reject_request"],
  "/servers": ["deploy_server"],
  "/agents/:agent/connections/:server/account": {
    none: "a sign-in ends in the browser that it began in: get_own_account says where that is",
  },
  "/servers/:server/account": {
    none: "a sign-in ends in the browser that it began in: get_server_account says where that is",
  },
  "/servers/:server/account/disconnect": ["disconnect_server_account"],
  "/agents/:agent/connections/:server/account/disconnect": ["disconnect_own_account"],
  "/servers/:id/api": ["read_api_document"],
  "/servers/:id/configuration": ["change_server"],
  "/servers/:id/definitions": ["approve_definitions", "withdraw_approvals"],
  "/servers/:id/hosts": ["allow_host"],
  "/servers/:id/hosts/disallow": ["disallow_host"],
  "/servers/:id/hosts/dismiss": ["dismiss_denial"],
  "/servers/:id/remove": ["remove_server"],
  "/servers/:id/restart": ["restart_server"],
  "/servers/:id/rollback": ["roll_back_server"],
  "/servers/:id/run": ["start_server"],
  "/servers/:id/stop": ["stop_server"],
  "/servers/:id/tools": ["approve_definitions", "withdraw_approvals"],
  "/servers/:id/tools/:name": ["call_tool"],
  "/servers/:id/tools/:name/runs/:run/answers/:question": RUNS,
  "/servers/:id/tools/:name/runs/:run/cancel": RUNS,
  "/servers/:id/tools/:name/runs/clear": RUNS,
  "/servers/:id/update": ["update_server"],
  "/servers/:id/update/skip": ["skip_server_update"],
  "/servers/acts": ["start_server", "stop_server", "restart_server", "remove_server"],
  "/servers/api": ["read_api_document"],
  "/servers/api/:document": ["add_api_server", "change_api_operations"],
  "/servers/api/:document/check": ["read_api_document"],
  "/servers/remote": ["add_remote_server"],
  "/setup": SIGNING_IN,
  "/sign-in": SIGNING_IN,
  "/sign-in/code": SIGNING_IN,
  "/sign-in/confirm": SIGNING_IN,
  "/sign-in/link": SIGNING_IN,
  "/sign-in/passkey": SIGNING_IN,
  "/sign-in/passkey/options": SIGNING_IN,
  "/sign-out": SIGNING_IN,
  "/toolboxes": ["add_toolbox"],
  "/toolboxes/:id/drain": ["change_toolbox"],
  "/toolboxes/:id/key": ["rotate_toolbox_key"],
  "/toolboxes/:id/labels": ["change_toolbox"],
  "/toolboxes/:id/name": ["change_toolbox"],
  "/toolboxes/:id/remove": ["remove_toolbox"],
  "/toolboxes/:id/revoke": ["revoke_toolbox"],
  "/toolboxes/:id/token": ["renew_enrolment_token"],
  "/toolboxes/:id/undrain": ["change_toolbox"],
  "/workspace/bodies": ["set_retention"],
  "/workspace/delete": WHO_IS_IN,
  "/workspace/invitations": WHO_IS_IN,
  "/workspace/invitations/:id/revoke": WHO_IS_IN,
  "/workspace/leave": WHO_IS_IN,
  "/workspace/members/:id/remove": WHO_IS_IN,
  "/workspace/members/:id/role": WHO_IS_IN,
  "/workspace/model": ["set_model"],
  "/workspace/model/remove": ["remove_model"],
  "/workspace/name": { none: "it is a part of who is in: others find the workspace by its name" },
  "/workspace/retention": ["set_retention"],
  "/workspace/transfer": WHO_IS_IN,
  "/workspaces": ONE_WORKSPACE,
  "/workspaces/:id/switch": ONE_WORKSPACE,
};

const PAGES: Record<string, Counterpart> = {
  "/": ["list_servers", "list_agents", "list_toolboxes", "list_requests"],
  "/account": OWN_ACCOUNT,
  "/account/security": OWN_ACCOUNT,
  "/account/tokens": OWN_TOKENS,
  "/agents": ["list_agents"],
  "/agents/:id": ["get_agent", "list_connections", "get_agent_management", "list_calls"],
  "/agents/:id/connections/:server": ["get_connection", "list_own_credentials"],
  "/agents/:id/connections/:server/tools/:name": ["get_connection"],
  "/agents/connections": ["map_connections"],
  "/api": { none: "it is the API's own page; /api/v1/openapi.json is the same for machines" },
  "/calls": ["list_calls", "summarize_calls"],
  "/calls/:id": ["get_call", "get_call_body"],
  "/chat": ["list_conversations", "get_model"],
  "/chat/:id": ["get_conversation"],
  "/chat/:id/calls/:call/media/:n": ["get_call_result"],
  "/chat/:id/calls/:call/result": ["get_call_result"],
  "/chat/:id/turns/:turn/attached/:n": {
    none: "it is a picture of the page: what is attached is attached on pages alone",
  },
  "/join": WHO_IS_IN,
  "/marketplace": ["search_catalog"],
  "/marketplace/:slug": ["get_catalog_entry", "list_entry_versions", "get_entry_trust"],
  "/marketplace/:slug/raw": ["read_entry_source"],
  "/marketplace/sources": ["list_catalog_sources", "get_catalog_source"],
  "/marketplace/sources/:id/broken": ["list_broken_entries"],
  "/new-password": SIGNING_IN,
  "/oauth/authorize": LETTING_IN,
  "/oauth/callback": SIGNING_IN,
  "/profile": { none: "it leads to /account/tokens, where it was" },
  "/requests": ["list_requests"],
  "/requests/:id": ["get_request"],
  "/servers": ["list_servers"],
  "/servers/:id": [
    "get_server",
    "get_server_update",
    "get_server_trust",
    "list_server_events",
    "read_server_usage",
    "read_vulnerabilities",
  ],
  "/servers/:server/account": ["get_server_account"],
  "/agents/:agent/connections/:server/account": ["get_own_account"],
  "/servers/:id/api": ["get_api_document"],
  "/servers/:id/bom": ["read_bill_of_materials"],
  "/servers/:id/configuration": ["get_server", "list_generations"],
  "/servers/:id/events": ["list_server_events"],
  "/servers/:id/generations/:generation": ["get_generation"],
  "/servers/:id/log": ["read_server_log"],
  "/servers/:id/network": ["read_server_network"],
  "/servers/:id/tools": ["list_tools", "list_definitions"],
  "/servers/:id/tools/:name": ["get_tool"],
  "/servers/:id/tools/:name/runs/:run": RUNS,
  "/servers/:id/try": ["list_tools"],
  "/servers/api": { none: "it is a form: read_api_document says what it takes" },
  "/servers/api/:document": ["get_api_document"],
  "/servers/remote": { none: "it is a form: add_remote_server says what it takes" },
  "/servers/remove": { none: "it asks whether: remove_server does it" },
  "/setup": SIGNING_IN,
  "/sign-in": SIGNING_IN,
  "/sign-in/callback": SIGNING_IN,
  "/sign-in/confirm": SIGNING_IN,
  "/sign-in/code": SIGNING_IN,
  "/sign-in/with/:provider": SIGNING_IN,
  "/toolboxes": ["list_toolboxes"],
  "/toolboxes/:id": ["get_toolbox", "list_toolbox_events"],
  "/workspace": [
    "get_workspace",
    "list_members",
    "list_invitations",
    "list_events",
    "get_retention",
    "get_model",
  ],
  "/workspaces": ONE_WORKSPACE,
};

/** What answers and is no page and no form of one: for machines, and for parts of pages. */
const NOT_PAGES = [
  /^\/functions\/v1\/chat$/,
  /^\/(mcp|sse|messages)(\/|$)/,
  /^\/(static|api\/v1|toolbox|schedule)\//,
  /^\/(healthz|readyz)$/,
  /^\/oauth\/(client\.json|register|token|revoke)$/,
  /^\/\.well-known\//,
  /\/live$/,
  /\/results$/,
];

const OPERATION_NAMES = new Set(
  OPERATIONS.flatMap(({ operations }) => operations).map(({ name }) => name),
);

/** The paths that the app answers a method at, as its routes name them. */
async function pathsOf(method: string): Promise<string[]> {
  const changes = { watch: () => {} }, identity = { passkeys: {}, authorizationServer: {} };
  const nothing = { baseUrl: new URL("http://localhost"), changes, identity };
  const { routes } = await createApp({ ...nothing, appSigningKey: {} } as unknown as Deps);
  const paths = routes.filter((route) => route.method === method).map(({ path }) => path);
  return [...new Set(paths)].filter((path) => !NOT_PAGES.some((each) => each.test(path)));
}

for (const [what, method, table] of [["form", "POST", FORMS], ["page", "GET", PAGES]] as const) {
  Deno.test(`each ${what} of the pages has its operation, or a reason why it has none`, async () => {
    assert.deepEqual((await pathsOf(method)).toSorted(), Object.keys(table).toSorted());
    for (const [path, counterpart] of Object.entries(table)) {
      if (!Array.isArray(counterpart)) continue;
      const unknown = counterpart.filter((name) => !OPERATION_NAMES.has(name));
      assert.deepEqual(unknown, [], path);
    }
  });
}

Deno.test("each operation is of a page, or for programs alone", () => {
  const forPrograms = [
    "who_am_i",
    "revoke_own_token",
    "export_workspace",
    "export_workspace_with_secrets",
    "import_workspace",
  ];
  const ofPages = [...Object.values(FORMS), ...Object.values(PAGES)]
    .flatMap((each) => Array.isArray(each) ? each : []);
  const others = [...OPERATION_NAMES].filter((name) => !ofPages.includes(name));
  assert.deepEqual(others.toSorted(), forPrograms.toSorted());
});
