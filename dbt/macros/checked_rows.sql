{#- The rows that a data test reads. Tests that sort or join tables which grow by session read the changed sessions, and
    such tests of the raw log read the pending loads: other rows are as they were when they were tested. Everything is
    tested after a full build, or on demand: `dbt test --vars 'check: all'`. -#}
{% macro get_where_subquery(relation) -%}
    {% set grouping_tests = ['unique', 'unique_together', 'contiguous_from_one', 'relationships'] %}
    {% set grouping = model.test_metadata.name in grouping_tests %}
    {% set changed = changed_condition(relation.identifier) if grouping else none %}
    {% set conditions = [config.get('where'), changed] | select | list %}
    {% if conditions -%}
        {{ return('(select * from ' ~ relation ~ ' where (' ~ conditions | join(') and (') ~ ')) as checked_rows') }}
    {%- endif %}
    {{ return(relation) }}
{%- endmacro %}

{#- SQL condition: the row was made by the last build, or will be by this one. Return none if every row is tested. -#}
{% macro changed_condition(name) -%}
    {% if not execute or var('check') == 'all' or flags.FULL_REFRESH %}{{ return(none) }}{% endif %}
    {% set built = of_earlier_builds('intermediate', 'int_loads_built') %}
    {% set pending = of_earlier_builds('intermediate', 'int_loads_pending') %}
    {% set changed = of_earlier_builds('intermediate', 'int_session_events_changed') %}
    {% if name == 'stg_events' and built -%}
        {{ return('load_id not in (select load_id from ' ~ built ~ ')') }}
    {%- elif name in grown_by_session() and changed and not is_first_build(pending) -%}
        {{ return('session_key in (select session_key from ' ~ changed ~ ')') }}
    {%- endif %}
    {{ return(none) }}
{%- endmacro %}

{% macro grown_by_session() -%}
    {% set names = [] %}
    {% for node in graph.nodes.values() if node.config.incremental_strategy == 'by_session' -%}
        {% do names.append(node.name) %}
    {%- endfor %}
    {{ return(names) }}
{%- endmacro %}

{#- Whether every load was pending in the last build. -#}
{% macro is_first_build(pending) -%}
    {% set earlier %}
        select count(*)
        from {{ of_earlier_builds('raw', 'loads') }}
        where load_id not in (select load_id from {{ pending }})
    {% endset %}
    {{ return(run_query(earlier).columns[0].values()[0] == 0) }}
{%- endmacro %}
