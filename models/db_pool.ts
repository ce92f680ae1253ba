import type postgres from "postgres";

/** What the app asks as itself: queries are tagged templates, each in a transaction of its own. */
export interface AppSql {
  <T extends readonly (object | undefined)[] = postgres.Row[]>(
    template: TemplateStringsArray,
    ...parameters: readonly postgres.ParameterOrFragment<never>[]
  ): Promise<postgres.RowList<T>>;
  json: postgres.Sql["json"];
  /** Of a text made by the caller, which holds nothing that came from outside. */
  unsafe(query: string): Promise<postgres.Row[]>;
  begin<T>(work: (sql: postgres.TransactionSql) => Promise<T>): Promise<T>;
  /** A connection for as long as its taker holds it, for a library that makes its own queries. */
  reserve(): Promise<{ unsafe: postgres.Sql["unsafe"]; release(): void }>;
}

/**
 * A pool whose connections each do one thing at a time: a query, or a transaction.
 *
 * postgres.js's own pool sends queries behind others whose answers are not there yet. A BEGIN that is the
 * last to be sent so (the hundredth, or the one that fills the socket) goes out on a connection that is
 * not kept for its transaction: other queries then run within it, and the process ends by a rejection
 * that nobody can catch (postgres.js 3.4.9, porsager/postgres#1189 and #823). And Supavisor, in
 * transaction mode, gives the answers to such queries to nobody, or to another (porsager/postgres#970,
 * supabase/supabase#50358). So each connection is a postgres.js of its own here.
 */
export class DbPool {
  readonly #all: Connection[];
  readonly #free: Connection[];
  readonly #waiting: ((connection: Connection) => void)[] = [];
  readonly asApp: AppSql;

  /**
   * @param open makes a postgres.js of one connection, which it opens at its first query; to be told when
   *   that is closed
   * @param max how many
   */
  constructor(open: (onclose: () => void) => postgres.Sql, max: number) {
    this.#all = Array.from({ length: max }, () => new Connection(open));
    this.#free = this.#all.toReversed();
    this.asApp = Object.assign(
      <T extends readonly (object | undefined)[]>(
        ...query: [TemplateStringsArray, ...postgres.ParameterOrFragment<never>[]]
      ) => this.#use(({ sql }) => sql<T>(...query)),
      {
        json: this.#all[0].sql.json,
        unsafe: (query: string) => this.#use(({ sql }) => sql.unsafe(query)),
        begin: <T>(work: (sql: postgres.TransactionSql) => Promise<T>) =>
          this.#use((connection) => connection.begin(work)),
        reserve: async () => {
          const connection = await this.#take();
          return { unsafe: connection.sql.unsafe, release: () => this.#giveBack(connection) };
        },
      },
    );
  }

  /** Ends all connections; what is under way has 5 seconds. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map(({ sql }) => sql.end({ timeout: 5 })));
  }

  async #use<T>(work: (connection: Connection) => PromiseLike<T>): Promise<T> {
    const connection = await this.#take();
    try {
      return await work(connection);
    } finally {
      this.#giveBack(connection);
    }
  }

  #take(): Promise<Connection> {
    const connection = this.#free.pop();
    if (connection) return Promise.resolve(connection);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #giveBack(connection: Connection): void {
    const next = this.#waiting.shift();
    if (next) next(connection);
    else this.#free.push(connection);
  }
}

/** A postgres.js of one connection. */
class Connection {
  readonly #open: (onclose: () => void) => postgres.Sql;
  #inTransaction = false;
  sql: postgres.Sql;

  constructor(open: (onclose: () => void) => postgres.Sql) {
    this.#open = open;
    this.sql = this.#make();
  }

  async begin<T>(work: (sql: postgres.TransactionSql) => Promise<T>): Promise<T> {
    try {
      return await this.sql.begin((sql) => {
        this.#inTransaction = true;
        return work(sql);
      }) as T;
    } finally {
      this.#inTransaction = false;
    }
  }

  /**
   * Of a transaction whose connection is lost, postgres.js writes what is asked later to the socket that is
   * gone, which ends the process, or to the next one, within another's transaction. An ended one refuses.
   */
  #make(): postgres.Sql {
    const sql = this.#open(() => {
      if (!this.#inTransaction || sql !== this.sql) return;
      sql.end();
      this.sql = this.#make();
    });
    return sql;
  }
}
