import { Hono } from "hono";
import { ApiDocs } from "../views/api_docs.tsx";
import { openApi } from "./api/openapi.ts";
import { PROBLEMS } from "./api/problems.ts";
import type { Deps, Env } from "./deps.ts";
import { page } from "./render.tsx";

/** The API's page, made of its OpenAPI document. */
export function apiDocsRoutes({ baseUrl, version }: Deps) {
  const document = openApi(baseUrl, version);
  return new Hono<Env>()
    .get("/api", (c) => page(c, "API", <ApiDocs document={document} problems={PROBLEMS} />));
}
