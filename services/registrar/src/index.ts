/** @lenserfight/registrar: enrolment, owners' sessions and requests. Its process is `main.ts`. */
export { RegistrarConfig } from './config.ts'
export { type Issuer, keySetAlgorithms, secretAlgorithms } from './token/issuer.ts'
export { createTokenVerifier, type TokenVerifier, type VerifiedToken } from './token/verify-token.ts'
