import { InfrastructureError } from '@lenserfight/runtime'
import { CodedError } from '@lenserfight/schemas'
import test from 'ava'
import pg from 'pg'
import { DataError, ownStates, toReason } from '../src/index.ts'

/** As the server reports it: with a message that quotes a value. */
const serverError = (state: string): pg.DatabaseError => {
  const error = new pg.DatabaseError('invalid input: "very secret"', 10, 'error')
  error.code = state
  return error
}
const systemError = (code: string): Error => Object.assign(new Error(`connect ${code}`), { code, syscall: 'connect' })

test('what no message is to blame for is infrastructure', (t) => {
  const states = ['08006', '08P01', '25006', '25P03', '28P01', '3D000', '40001', '40P01', '42501', '42883', '42P01']
  const more = ['53100', '53200', '53300', '55P03', '57014', '57P01', '57P03', '58030', 'XX001', ownStates.brokenClock]
  for (const state of [...states, ...more]) t.true(toReason(serverError(state)) instanceof InfrastructureError, state)
})

test('what the client says without the server is infrastructure', (t) => {
  for (const code of ['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT']) {
    t.true(toReason(systemError(code)) instanceof InfrastructureError, code)
  }
  t.true(toReason(new Error('Connection terminated unexpectedly')) instanceof InfrastructureError)
  t.true(toReason(new Error('Query read timeout')) instanceof InfrastructureError)
})

test('what one message is to blame for is a data error, which names the state and not the value', (t) => {
  for (const state of ['22P02', '22P05', '23505', '23514', '54000', 'LT003', 'LT004', 'P0001', 'XX000']) {
    const reason = toReason(serverError(state))
    t.true(reason instanceof DataError, state)
    t.is((reason as DataError).sqlState, state)
    t.is(reason.code, 'internal_error')
    t.false(reason.message.includes('secret'))
    t.truthy(reason.cause)
  }
})

test('our own states carry the contract’s codes', (t) => {
  t.is(toReason(serverError(ownStates.notAnEnvelope)).code, 'malformed_envelope')
  t.is(toReason(serverError(ownStates.invalidTransition)).code, 'invalid_transition')
})

test('what has a code already keeps it', (t) => {
  const coded = new CodedError('claim_expired')
  t.is(toReason(coded), coded)
})
