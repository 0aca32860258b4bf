/** What a proof looks like, for the API reference. */
import { type Proof, SCHEMA } from './file.ts';

const digest = (character: string): string => character.repeat(64);
const hash = '5f0c3b1e'.repeat(8);
const event = '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a';
const said = '2026-11-21T08:00:00.000Z';
const signature = 'q0mR…';
const controller = {
  name: 'Usta Bakery',
  address: 'Moda Caddesi 1, İstanbul',
  contact: 'privacy@usta.example',
  jurisdiction: 'TR',
  storage: 'İstanbul',
  retention: 'Three years after the last order',
  recipients: [],
};

export const keyExample: Proof['key'] = {
  algorithm: 'Ed25519',
  public_key: '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA…\n-----END PUBLIC KEY-----\n',
  sha256: digest('4'),
};

export const proofExample: Proof = {
  schema: SCHEMA,
  generated_at: '2026-11-21T09:00:00.000Z',
  installation: '7a4f2d0e-58b1-4c55-9a39-0d6a3f1c2b7e',
  controller,
  consent_validity: null,
  key: keyExample,
  subject: {
    account: 1042,
    addresses: [{ contact_point: 31, kind: 'phone', hash, value: '+905321234567', verified_at: said }],
  },
  states: [
    {
      contact_point: 31,
      channel: 'sms',
      purpose: 'marketing',
      state: 'granted',
      since: said,
      valid_until: null,
      event,
    },
  ],
  contents: [{ event, position: 17 }],
  lines: [
    {
      withheld: false,
      id: event,
      contact_point: 31,
      address_kind: 'phone',
      address_hash: hash,
      channel: 'sms',
      purpose: 'marketing',
      kind: 'grant',
      occurred_at: said,
      recorded_at: said,
      outcome: 'applied',
      account: 1042,
      source: 'account',
      actor: 'account:1042',
      idempotency_key: null,
      commitment: digest('c'),
      proven: true,
      notice: 3,
      notice_sha256: digest('e'),
      salt: '9d1f0c2b3a4958677685940312233445',
      evidence: { address: '+905321234567', ip: '203.0.113.7', user_agent: 'Mozilla/5.0', request: 'k2f9-3' },
      hash: digest('1'),
      position: 17,
      seal: 5,
      index: 1,
      path: [digest('2')],
      receipt: {
        schema_version: 'ISO/IEC TS 27560:2023',
        record_id: event,
        pii_principal_id: 'account:1042',
        pii_processing: {
          privacy_notice: { version: '2026-11', sha256: digest('e') },
          language: 'tr',
          purpose: 'marketing',
          channel: 'sms',
          pii_information: [{ pii_type: 'phone number' }],
          pii_controllers: ['controller'],
          storage_locations: [controller.storage],
          retention_period: controller.retention,
          jurisdiction: controller.jurisdiction,
          recipient_third_parties: [],
          withdrawal_method: 'Under “My account”, or by answering DUR',
        },
        party_identification: [
          {
            party_id: 'controller',
            party_name: controller.name,
            party_address: controller.address,
            party_contact: controller.contact,
            party_type: 'controller',
          },
        ],
        event: {
          event_time: said,
          validity_duration: 'until withdrawn',
          entity_id: 'account:1042',
          event_type: 'grant',
          event_state: 'given',
        },
      },
    },
  ],
  notices: [
    {
      id: 3,
      purpose: 'marketing',
      channels: ['sms'],
      language: 'tr',
      version: '2026-11',
      text: 'Kampanyalardan SMS ile haberdar olmak istiyorum.',
      text_sha256: digest('e'),
      withdrawal: 'Under “My account”, or by answering DUR',
      valid_from: '2026-11-01T00:00:00.000Z',
    },
  ],
  seals: [
    {
      number: 5,
      first_position: 16,
      lines: 2,
      root: digest('3'),
      previous: digest('5'),
      sealed_at: '2026-11-21T08:00:01.000Z',
      head: digest('6'),
      signature,
    },
  ],
  head: { count: 17, hash: digest('6'), at: '2026-11-21T08:00:01.000Z', signature },
  signature,
};
