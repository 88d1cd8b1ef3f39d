{{ config(pre_hook="{{ forget_earlier_builds() }}") }}
{% do require_current_columns() %}
{% set built = of_earlier_builds(this.schema, 'int_loads_built') %}

with loads as (
    select * from {{ ref('stg_loads') }}
),

pending as (
    select distinct load_id
    from loads
    {% if built %}where load_id not in (select load_id from {{ built }}){% endif %}
)

select * from pending
