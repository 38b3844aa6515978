// Configures oidc-provider (https://github.com/panva/node-oidc-provider) as a bank's authorization server, and starts it.
//
//   node server.js FOLDER REDIRECT_URI LIFE
//
// FOLDER holds what the test has made: ca.pem, server.pem and server.key, the keys es256.key and ps256.key, and the
// certificate alone.crt. Access tokens live for LIFE seconds. What a bank decides stands in this file; what OAuth says is the
// library's. One JSON line is written for each request, and one that says where it listens.

import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as https from 'node:https';
import * as path from 'node:path';

import { Provider } from 'oidc-provider';

const [folder, redirectUri, life] = process.argv.slice(2);
const read = (name) => fs.readFileSync(path.join(folder, name));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// A client may show a certificate. Whether it has to, and which, is a matter of its registration.
const server = https.createServer({
  cert: read('server.pem'), key: read('server.key'), ca: read('ca.pem'), requestCert: true, rejectUnauthorized: false,
});
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `https://localhost:${server.address().port}`;

const publicKey = (name, alg) => ({ ...crypto.createPublicKey(read(name)).export({ format: 'jwk' }), kid: name, alg, use: 'sig' });

function certificateKey(name) {
  const certificate = new crypto.X509Certificate(read(name));
  return { ...certificate.publicKey.export({ format: 'jwk' }), kid: name, x5c: [certificate.raw.toString('base64')] };
}

const clients = [
  {
    client_id: 'es256', token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [publicKey('es256.key', 'ES256')] },
  },
  {
    client_id: 'ps256', token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'PS256',
    jwks: { keys: [publicKey('ps256.key', 'PS256')] },
  },
  {
    client_id: 'mtls', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: 'tpp.example',
    tls_client_certificate_bound_access_tokens: true,
  },
  {
    client_id: 'alone', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [certificateKey('alone.crt')] },
    tls_client_certificate_bound_access_tokens: true,
  },
  // Each of these characters means something in Basic authentication, in a form or in a URL.
  { client_id: 'tpp: 7%2B+&=/?#~"\\', token_endpoint_auth_method: 'client_secret_basic', client_secret: 's:e c%r+e&t=/?#~"\\%41' },
  { client_id: 'post', token_endpoint_auth_method: 'client_secret_post', client_secret: 'p:o s%t+&=/?#~"\\%41' },
  { client_id: 'public', token_endpoint_auth_method: 'none' },
  {
    client_id: 'pushed', token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [publicKey('es256.key', 'ES256')] }, require_pushed_authorization_requests: true,
  },
];

const { privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });

const provider = new Provider(issuer, {
  clients,
  clientDefaults: {
    redirect_uris: [redirectUri], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
    id_token_signed_response_alg: 'ES256',
  },
  clientAuthMethods: [
    'none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth',
  ],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }] },
  cookies: { keys: [crypto.randomBytes(32).toString('hex')] },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: () => Number(life), RefreshToken: () => 86_400, IdToken: () => 3_600, Interaction: () => 3_600,
    Session: () => 86_400, Grant: () => 86_400,
  },
  features: {
    revocation: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    mTLS: {
      enabled: true, certificateBoundAccessTokens: true, tlsClientAuth: true, selfSignedTlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
        && ctx.socket.getPeerX509Certificate().subjectAltName === `DNS:${expected}`,
    },
  },
});

// How the client proved itself, by what it sent.
function proof(ctx, { client_secret: secret, client_assertion: assertion }) {
  const shown = [
    ctx.headers.authorization && 'client_secret_basic', secret && 'client_secret_post', assertion && 'private_key_jwt',
    ctx.socket.getPeerX509Certificate() && 'certificate',
  ];
  return shown.filter(Boolean).join(' ') || 'none';
}

provider.use(async (ctx, next) => {
  await next();
  const { route, params = {}, client } = ctx.oidc ?? {};
  const line = { route, status: ctx.status, client: client?.clientId };
  const body = typeof ctx.body === 'object' ? ctx.body : {};
  if (['token', 'revocation', 'pushed_authorization_request'].includes(route)) {
    Object.assign(line, {
      proof: proof(ctx, ctx.oidc.body ?? {}), grant_type: params.grant_type, presented: params.refresh_token ?? params.token,
      issued: body.refresh_token, id_token: body.id_token && true, error: body.error, error_description: body.error_description,
    });
  }
  if (route === 'authorization') Object.assign(line, { pushed: Boolean(ctx.query.request_uri), parameters: Object.keys(ctx.query) });
  say(line);
});
provider.on('grant.revoked', (ctx, grant) => say({ revoked: grant, route: ctx.oidc.route }));
provider.on('server_error', (_, error) => say({ failed: String(error.stack) }));

server.on('request', provider.callback());
say({ issuer });
