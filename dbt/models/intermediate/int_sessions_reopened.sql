{% set known = of_earlier_builds('marts', 'fct_session_events') %}
{% set earlier = of_earlier_builds(this.schema, this.identifier) %}

with pending as (
    select * from {{ ref('int_loads_pending') }}
),

events as (
    select * from {{ ref('stg_events') }}
    where load_id in (select load_id from pending)
),

{% if known -%}
reopened as (
    {{ sessions_reopened('events', known) }}
    {% if earlier -%}
    union
    -- Sessions that an incomplete build has replaced: some tables may still have rows under the old key.
    select session_key from {{ earlier }}
    where load_id in (select load_id from pending)
    {%- endif %}
),
{%- else -%}
reopened as (
    select event_id as session_key from events where false
),
{%- endif %}

tagged as (
    select
        session_key,
        (select min(load_id) from pending) as load_id
    from reopened
)

select * from tagged
