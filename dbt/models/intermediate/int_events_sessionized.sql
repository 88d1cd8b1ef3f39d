{{ config(materialized='view', meta={'session_gap_minutes': var('session_gap_minutes')}) }}
{{ sessionized(ref('int_events_deduplicated')) }}
