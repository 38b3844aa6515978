//! That a record reads back as it was written, and what is made of one that nobody wrote so.

use super::*;

fn full() -> Record {
    let version = Version { grant: GrantId::random(), generation: 3 };
    let attempt = AttemptId::new("replica/boot", 1);
    Record {
        state: RecordState::Uncertain,
        version,
        fence: 9,
        access: Some(Sealed::from_bytes([0, 255, 1])),
        access_from: 1_000,
        access_until: 2_000,
        life: 1_000,
        refresh: Some(Sealed::from_bytes([7; 40])),
        refresh_fingerprint: Some(Fingerprint::from_bytes([1; 16])),
        spent: vec![Fingerprint::from_bytes([2; 16]), Fingerprint::from_bytes([3; 16])],
        scope: Scope::parse("a [b]"),
        bank_consent_id: Some("B/1".into()),
        consent_until: Some(5_000),
        certificate: Some("thumb".into()),
        holder: Some(attempt.clone()),
        lease_until: 1_500,
        intent: Some(Intent { attempt: attempt.clone(), version, at: 1_400 }),
        sends: 1,
        quarantine_from: 1_500,
        committed_by: Some(attempt.clone()),
        committed_back: true,
        revived_by: Some(attempt),
        failed_lease: Some("8 replica/boot/0".into()),
        not_before: 1_700,
        failures: 2,
        why: Some("timeout".into()),
        alt: Some(Alternate {
            refresh: Sealed::from_bytes([8]),
            version,
            fingerprint: Some(Fingerprint::from_bytes([4; 16])),
        }),
        replaced: Some((Sealed::from_bytes([9]), Version::first(GrantId::random()))),
        forced_at: Some(1_200),
        ended_at: 4,
        granted_at: 3,
        pending_until: 6,
        reasserted: Some(AttemptId::new("replica/boot", 1)),
        ..Record::empty(ProviderId::parse("bank").unwrap(), version.grant)
    }
}

fn stored(record: &Record) -> Vec<(Vec<u8>, Vec<u8>)> {
    record.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
}

#[test]
fn a_record_reads_back_what_it_wrote() {
    let small = Record::empty(ProviderId::parse("bank").unwrap(), GrantId::random());
    for record in [full(), small] {
        assert_eq!(Record::from_fields(&stored(&record)), Ok(record));
    }
}

#[test]
fn every_checked_field_names_itself_when_it_is_garbage() {
    let checked = [
        "v",
        "prov",
        "st",
        "grant",
        "gen",
        "fence",
        "at_iat",
        "at_exp",
        "life",
        "rt_fp",
        "spent",
        "scope",
        "c_exp",
        "lease",
        "it_ver",
        "it_at",
        "it_n",
        "quar",
        "next",
        "fails",
        "alt_ver",
        "old_ver",
        "forced_at",
        "ended_at",
        "alt_fp",
        "g_at",
    ];
    for name in checked {
        let mut fields = stored(&full());
        let field = fields.iter_mut().find(|(field, _)| field == name.as_bytes()).unwrap();
        field.1 = b"\"garbage".to_vec();
        assert_eq!(Record::from_fields(&fields), Err(BadField(name)));
    }
    for name in ["v", "prov", "st", "grant", "gen"] {
        let fields: Vec<_> = stored(&full()).into_iter().filter(|(field, _)| field != name.as_bytes()).collect();
        assert_eq!(Record::from_fields(&fields), Err(BadField(name)));
    }
}

#[test]
fn a_field_of_a_later_release_is_passed_over() {
    let record = full();
    let mut fields = stored(&record);
    fields.push((b"later".to_vec(), b"?".to_vec()));
    assert_eq!(Record::from_fields(&fields), Ok(record));
}

#[test]
fn an_access_token_from_the_future_counts_as_expired() {
    let record = full();
    assert_eq!(record.remaining(1_400), 600);
    assert_eq!(record.remaining(2_000), 0);
    assert_eq!(record.remaining(0), 1_000, "within the tolerance, and never more than its life");
    let later = Record { access_from: 10_000, access_until: 11_000, ..record };
    assert_eq!(later.remaining(4_999), 0);
}

#[test]
fn the_end_of_a_consent_is_seen_and_not_written() {
    let record = full();
    assert_eq!(record.state_at(4_999), RecordState::Uncertain);
    assert_eq!(record.state_at(5_000), RecordState::Expired);
    assert_eq!(record.state_at(4_999), RecordState::Uncertain, "a clock that was wrong has ended nothing");
}
