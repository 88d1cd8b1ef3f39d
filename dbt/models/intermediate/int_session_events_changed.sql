{{ config(meta={'session_gap_minutes': var('session_gap_minutes')}) }}
{% set known = of_earlier_builds('marts', 'fct_session_events') %}
{% set reopened = ref('int_sessions_reopened') %}
{% set in_span = in_span_of(known, reopened) if known %}

with pending as (
    select * from {{ ref('int_loads_pending') }}
),

events as (
    select * from {{ ref('stg_events') }}
    where load_id in (select load_id from pending)
),

whole_sessions as (
    {{ events_reopened('events', known, reopened, in_span) if known else 'select * from events where false' }}
),

deduplicated as (
    {{ deduplicated('whole_sessions') }}
),

shared as (
    {{ shared_session_ids('whole_sessions') }}
),

sessionized as (
    {{ sessionized('deduplicated', 'shared') }}
),

positioned as (
    {{ positioned('sessionized') }}
)

select * from positioned
