/**
 * The app: middleware in order, routes mounted. Everything reachable from here runs on an edge
 * isolate as well: nothing starts a process, listens, writes a file or keeps truth in memory.
 */
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { compress } from "hono/compress";
import { csrf } from "hono/csrf";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import {
  apiServerRoutes,
  DOCUMENT_FORM_LIMIT_BYTES,
  DOCUMENT_FORMS,
} from "./routes/api_servers.tsx";
import { accountRoutes } from "./routes/account.tsx";
import { accountTokenRoutes } from "./routes/account_tokens.tsx";
import { agentRoutes } from "./routes/agents.tsx";
import { authorizationRoutes, clientMetadataRoutes } from "./routes/authorizations.tsx";
import { ownTools } from "./routes/api/own_tools.ts";
import { apiRoutes } from "./routes/api/routes.ts";
import { apiDocsRoutes } from "./routes/api_docs.tsx";
import { catalogScheduleRoutes, catalogSourceRoutes } from "./routes/catalog_sources.tsx";
import { clientConsentRoutes } from "./routes/client_consent.tsx";
import { clientSignInRoutes } from "./routes/client_sign_in.ts";
import { connectionMapRoutes } from "./routes/connection_map.tsx";
import { connectionRoutes } from "./routes/connections.tsx";
import { callRoutes } from "./routes/calls.tsx";
import { chatFunctionRoutes } from "./routes/chat_function.ts";
import { chatRoutes } from "./routes/chat.tsx";
import type { AppDeps, Deps, Env } from "./routes/deps.ts";
import { problem, showProblem } from "./routes/problem.tsx";
import { healthRoutes } from "./routes/health.ts";
import { homeRoutes } from "./routes/home.tsx";
import { invitationRoutes } from "./routes/invitations.tsx";
import { mailLinkRoutes } from "./routes/mail_links.tsx";
import { marketplaceRoutes } from "./routes/marketplace.tsx";
import { mcpRoutes } from "./routes/mcp.ts";
import { openModelReach } from "./models/model_reach.ts";
import { newPasswordRoutes } from "./routes/new_password.tsx";
import { renewSession } from "./routes/renew_session.ts";
import { requireUser, requireWorkspace } from "./routes/require_user.tsx";
import { remoteServerRoutes } from "./routes/remote_servers.tsx";
import { serverRoutes } from "./routes/servers.tsx";
import { serverTabRoutes } from "./routes/server_tabs.tsx";
import { sessionRoutes } from "./routes/session.tsx";
import { staticRoutes } from "./routes/static.ts";
import { toolboxRoutes } from "./routes/toolbox.ts";
import { toolboxPageRoutes } from "./routes/toolboxes.tsx";
import { toolRoutes } from "./routes/tools.tsx";
import { trialRoutes } from "./routes/trials.tsx";
import { pageOfForm } from "./routes/page_of_form.ts";
import { upkeepRoutes } from "./routes/upkeep.ts";
import { wishRoutes } from "./routes/wishes.tsx";
import { workspaceOfRequest } from "./routes/workspace_of_request.tsx";
import { workspaceRoutes, workspacesRoutes } from "./routes/workspaces.tsx";

/** Largest form, in bytes: some hundred inputs at their limit would not be a person's. */
const FORM_LIMIT_BYTES = 2 * 1024 * 1024;

/** Paths that machines call again and again. */
const MACHINES = /^\/(static|schedule|toolbox|healthz|readyz)\b|\/live$/;

const formLimit = limitedTo(FORM_LIMIT_BYTES);
const documentFormLimit = limitedTo(DOCUMENT_FORM_LIMIT_BYTES);

function limitedTo(maxSize: number) {
  return bodyLimit({
    maxSize,
    onError: (c) =>
      showProblem(
        c,
        413,
        "Too large",
        `The form holds more than ${maxSize / 1024 ** 2} MiB. Shorten it and send it again.`,
      ),
  });
}

/** Makes the app out of the parts that its entry point chose. */
export async function createApp(given: Deps): Promise<Hono<Env>> {
  const models = given.models ?? openModelReach();
  const deps: AppDeps = {
    ...given,
    models,
    // The chat is a client of the bridge like any other; its requests need not leave this process.
    bridge: {
      url: given.baseUrl,
      fetch: async (input: string | URL | Request, init?: RequestInit) =>
        await app.fetch(new Request(input, init)),
    },
  };
  const basePath = deps.baseUrl.pathname.replace(/\/+$/, "");
  const { routes: staticFiles, assets } = await staticRoutes(basePath);

  // Not strict: below a path of its own the overview is at the path, with and without a slash at its end.
  const pages: Hono<Env> = new Hono<Env>({ strict: false })
    .basePath(basePath)
    .use(requestId({ headerName: "" }))
    .use(async (c, next) => {
      c.set("assets", assets);
      const started = performance.now();
      await next();
      // What machines do all the time is recorded as calls and events; of it only failures are logged.
      if (c.res.status < 400 && MACHINES.test(c.req.path.slice(basePath.length))) return;
      deps.log.info("Request", {
        method: c.req.method,
        path: c.req.path,
        status: c.res.status,
        ms: Math.round(performance.now() - started),
        request: c.get("requestId"),
      });
    })
    .use(secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'", "data:"],
        // Sounds that tools answer with; data: is a document of its own and runs nothing.
        mediaSrc: ["data:"],
        connectSrc: ["'self'"],
        formAction: ["'self'"],
        baseUri: ["'none'"],
        frameAncestors: ["'none'"],
      },
      xFrameOptions: "DENY",
      referrerPolicy: "same-origin",
      strictTransportSecurity: deps.baseUrl.protocol === "https:" && "max-age=31536000",
      permissionsPolicy: { camera: [], microphone: [], geolocation: [] },
    }))
    // Machines first: they bring their own proof with each request, and no cookies.
    .route("/", healthRoutes(deps))
    .route("/", staticFiles)
    .route("/", clientSignInRoutes(deps))
    .route("/", apiRoutes(deps))
    .route("/functions/v1/chat", chatFunctionRoutes(deps))
    .route("/", toolboxRoutes(deps))
    .route("/", catalogScheduleRoutes(deps))
    .route("/", upkeepRoutes(deps))
    // People: forms of other sites are refused, and pages are compressed.
    .use(csrf({
      origin: (origin, c) => origin === deps.baseUrl.origin || origin === new URL(c.req.url).origin,
    }))
    .use((c, next) =>
      DOCUMENT_FORMS.test(c.req.path.slice(basePath.length))
        ? documentFormLimit(c, next)
        : formLimit(c, next)
    )
    .use(compress({ encoding: "gzip" }))
    .route("/", clientMetadataRoutes(deps))
    .use(renewSession(deps))
    .route("/", sessionRoutes(deps))
    .route("/", newPasswordRoutes(deps))
    .route("/", mailLinkRoutes(deps))
    .route("/", invitationRoutes(deps))
    .use(requireUser(deps))
    .route("/", accountRoutes(deps))
    .route("/", workspacesRoutes(deps))
    .use(requireWorkspace())
    .use(workspaceOfRequest(deps))
    .route("/", workspaceRoutes(deps))
    .route("/", homeRoutes(deps))
    .route("/", catalogSourceRoutes(deps))
    .route("/", marketplaceRoutes(deps))
    .route("/", toolRoutes(deps))
    .route("/", trialRoutes(deps))
    .route("/", remoteServerRoutes(deps))
    .route("/", apiServerRoutes(deps))
    .route("/", authorizationRoutes(deps))
    .route("/", serverRoutes(deps))
    .route("/", serverTabRoutes(deps))
    .route("/", connectionMapRoutes(deps))
    .route("/", agentRoutes(deps))
    .route("/", clientConsentRoutes(deps))
    .route("/", connectionRoutes(deps))
    .route("/", wishRoutes(deps))
    .route("/", chatRoutes(deps))
    .route("/", callRoutes(deps))
    .route("/", toolboxPageRoutes(deps))
    .route("/", accountTokenRoutes(deps))
    .route("/", apiDocsRoutes(deps))
    .notFound((c) => {
      const page = c.req.method === "GET" ? pageOfForm(pages.routes, c.req.path) : null;
      return page
        ? c.redirect(page, 303)
        : showProblem(c, 404, "Not found", "There is no such page. It may have been removed.");
    })
    .onError(problem(deps.log));

  // The bridge by itself: its few paths are found by one regular expression, and not among 400 of pages, which
  // cost a call 1 to 4 us.
  const app: Hono<Env> = new Hono<Env>({ strict: false })
    .basePath(basePath)
    .route("/", mcpRoutes({ ...deps, ownTools: ownTools(deps) }))
    .notFound((c) => {
      const { path } = c.req;
      if (path === basePath || path.startsWith(`${basePath}/`)) {
        return pages.fetch(c.req.raw, c.env);
      }
      const metadata = metadataWithin(basePath, path);
      if (metadata) return pages.fetch(new Request(new URL(metadata, c.req.url), c.req.raw), c.env);
      return c.text(
        `Mooring is at ${deps.baseUrl}. What lies before it has to pass paths on as they are.\n`,
        404,
      );
    });
  // Whoever asks for its routes is told of all.
  app.routes.push(...pages.routes);
  return app;
}

/**
 * Where the app has what is asked of it before its path: OAuth's metadata stands between a host and the path that
 * it is of (RFC 8414, section 3.1; RFC 9728, section 3.1).
 */
function metadataWithin(basePath: string, path: string): string | null {
  const [, kind, of] = METADATA.exec(path) ?? [];
  const isOwn = of === basePath || of?.startsWith(`${basePath}/`);
  return isOwn ? basePath + kind + of.slice(basePath.length) : null;
}

const METADATA = /^(\/\.well-known\/oauth-(?:authorization-server|protected-resource))(\/.+)$/;
