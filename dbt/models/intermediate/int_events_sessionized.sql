{{ config(materialized='view', meta={'session_gap_minutes': var('session_gap_minutes')}) }}
{{ sessionized(ref('int_events_deduplicated'), ref('int_session_ids_shared')) }}
