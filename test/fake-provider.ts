/** A provider on a real socket: keeps what it is asked, and answers as a test says. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { HttpAnswer, HttpCall } from '../src/calls.ts';
import { call } from '../src/platform/outgoing.ts';

export interface Asked {
  /** `PUT /members/7?x=1` */
  readonly line: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Answering {
  readonly status: number;
  readonly headers?: Record<string, string>;
  /** Sent as JSON unless it is a string. */
  readonly body?: unknown;
}

export interface FakeProvider {
  readonly base: string;
  /** What was asked, oldest first. */
  readonly asked: Asked[];
  /** What it answers from now on. */
  answers(how: (asked: Asked) => Answering): void;
  /** Asks it, as jobs do. */
  ask(what: HttpCall): Promise<HttpAnswer>;
  close(): Promise<void>;
}

export async function fakeProvider(): Promise<FakeProvider> {
  const asked: Asked[] = [];
  let answer: (asked: Asked) => Answering = () => ({ status: 204 });
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (piece: string) => {
      body += piece;
    });
    request.on('end', () => {
      const one: Asked = {
        line: `${request.method} ${request.url}`,
        headers: request.headers as Record<string, string>,
        body,
      };
      asked.push(one);
      const { status, headers = {}, body: text } = answer(one);
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(typeof text === 'string' || text === undefined ? text : JSON.stringify(text));
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    answers(how) {
      answer = how;
    },
    ask: (what) => call(what, 5000),
    async close() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}
